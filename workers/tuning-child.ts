/** Trains jobs for a tuning worker, which may stop them and which it never outlives. Its LM stays open between them. */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { toFailureRecord } from '../src/errors.ts';
import { giveWay } from '../src/priority.ts';
import { realDependencies } from '../src/tuning/dependencies.ts';
import { createResidentLms } from '../src/tuning/resident.ts';
import { runTuning } from '../src/tuning/run.ts';
import type { TuningHooks, TuningJob } from '../src/tuning/types.ts';
import { endWithParent } from './guard.ts';
import type { FromChild, StopReason, ToChild, Told } from './tuning/protocol.ts';

endWithParent();
giveWay();
const dependencies = { ...realDependencies, openLm: createResidentLms(realDependencies.openLm) };
/** Why jobs that run are to stop, null while they are not. */
const stops = new Map<string, StopReason | null>();
process.on('message', (message: ToChild) => {
  if (message.type === 'end') process.exit(0);
  if (message.type === 'start') void train(message.job);
  else if (stops.has(message.job)) stops.set(message.job, message.reason);
});

async function train(job: TuningJob): Promise<void> {
  const { id } = job.spec;
  const send = (told: Told) => void process.send?.({ ...told, job: id } satisfies FromChild, () => {});
  stops.set(id, null);
  send({ type: 'started' });
  let end:
    | { type: 'outcome'; outcome: Awaited<ReturnType<typeof runTuning>> }
    | { type: 'failed'; error: ReturnType<typeof toFailureRecord> };
  try {
    end = { type: 'outcome', outcome: await runTuning(job, createHooks(job, send), dependencies) };
  } catch (error) {
    end = { type: 'failed', error: toFailureRecord(error) };
  }
  stops.delete(id);
  send({ ...end, memory: process.memoryUsage.rss() });
}

/** At most so many heartbeats and looks at the disk a second. */
const intervalMilliseconds = 500;

function createHooks(job: TuningJob, send: (told: Told) => void): TuningHooks {
  const { id } = job.spec;
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
      if (stops.get(id) == null && Date.now() - lastLook >= intervalMilliseconds) {
        lastLook = Date.now();
        if (isOutdated(job)) stops.set(id, 'cancel');
      }
      return stops.get(id) ?? null;
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
