/** Trains one job for a tuning worker, which may stop it and which it never outlives. */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { toFailureRecord } from '../src/errors.ts';
import { runTuning } from '../src/tuning/run.ts';
import type { TuningHooks, TuningJob } from '../src/tuning/types.ts';
import { endWithParent } from './guard.ts';
import type { FromChild, StopReason, ToChild } from './tuning/protocol.ts';

endWithParent();
let stop: StopReason | null = null;
let hasStarted = false;
process.on('message', (message: ToChild) => {
  if (message.type === 'stop') stop = message.reason;
  else if (!hasStarted) {
    hasStarted = true;
    void train(message.job);
  }
});

async function train(job: TuningJob): Promise<void> {
  let last: FromChild;
  try {
    last = { type: 'outcome', outcome: await runTuning(job, createHooks(job)) };
  } catch (error) {
    last = { type: 'failed', error: toFailureRecord(error) };
  }
  process.send!(last, () => process.exit(0));
}

/** At most so many heartbeats and looks at the disk a second. */
const intervalMilliseconds = 500;

function createHooks(job: TuningJob): TuningHooks {
  const send = (message: FromChild) => void process.send?.(message, () => {});
  let lastBeat = 0;
  let lastLook = 0;
  return {
    progress: (progress) => send({ type: 'progress', progress }),
    event: (event) => send({ type: 'event', event }),
    checkpoint: (checkpoint) => send({ type: 'checkpoint', checkpoint }),
    checkpointRemoved: (model) => send({ type: 'checkpoint-removed', model }),
    heartbeat() {
      if (Date.now() - lastBeat < intervalMilliseconds) return;
      lastBeat = Date.now();
      send({ type: 'heartbeat' });
    },
    stopRequested() {
      if (stop === null && Date.now() - lastLook >= intervalMilliseconds) {
        lastLook = Date.now();
        if (isOutdated(job)) stop = 'cancel';
      }
      return stop;
    },
  };
}

/** The worker may be frozen while another has taken the job, or the job has ended: the disk tells. */
function isOutdated({ directory, attempt }: TuningJob): boolean {
  try {
    return existsSync(join(directory, 'result.json')) || Number(readFileSync(join(directory, 'attempt'))) > attempt;
  } catch {
    return false;
  }
}
