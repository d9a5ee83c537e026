/** What a tuning worker does with a job. Every write names its attempt, so a worker taken for dead changes nothing. */
import { setTimeout } from 'node:timers/promises';
import { type FailureRecord, PtunedError } from '../errors.ts';
import type { JobCheckpoint, JobResult, JobSpec, JobState, Progress } from './contract.ts';
import { createOutbox } from './outbox.ts';
import { adopt } from './reconcile.ts';
import { encodeEvent, message, type NewEvent, readCheckpoints, unixSeconds } from './records.ts';
import { check, checkpoint, claim, event, progress, release, runScript } from './scripts.ts';
import type { JobStore } from './store.ts';

/** Attempts in a row that may break off without progress: by the job's own child, or with the whole worker. */
export const crashLimit = 3;
export const lossLimit = 10;

/**
 * Where an attempt stands: `queued` after Redis lost its record and got it back from disk, `superseded` when another
 * worker has the job, `final` when it was cancelled.
 */
export type Standing = 'running' | 'queued' | 'paused' | 'final' | 'superseded' | 'missing';

export interface Attempt {
  readonly number: number;
  readonly spec: JobSpec;
  /** These three return at once and are sent in order; progress may skip what is out of date. */
  progress(progress: Progress): void;
  event(event: NewEvent): void;
  checkpoint(checkpoint: Omit<JobCheckpoint, 'id'>): void;
  checkpointRemoved(model: string): void;
  standing(): Promise<Standing>;
  /** Gives the job back, and nothing is told after; `poison` when it has broken off too often without progress. */
  release(how: 'hand-back' | 'crash'): Promise<Standing | 'poison'>;
  succeed(result: JobResult): Promise<void>;
  fail(error: FailureRecord): Promise<void>;
  /** Stops sending. */
  close(): void;
}

export type Claim =
  | { kind: 'run'; attempt: Attempt }
  /** Workers died with this job too often. */
  | { kind: 'poison'; attempt: Attempt }
  /** The queue entry is out of date. */
  | { kind: 'skip'; reason: string };

/** Takes a job for this worker. Waits for Redis until `signal` aborts. */
export async function claimJob(store: JobStore, id: string, entry: string, signal: AbortSignal): Promise<Claim> {
  const { keys, files } = store;
  if (!(await files.exists(id))) return { kind: 'skip', reason: 'missing on disk' };
  const disk = await files.readAttempt(id);
  const reply = await untilAvailable(signal, () =>
    store.connection.call((client) =>
      runScript(client, claim, [keys.job(id)], [entry, unixSeconds(), disk, lossLimit]),
    ),
  );
  const [verdict, number, toldStep] = reply as [string, number, number];
  if (verdict === 'missing') await adopt(store, id);
  if (verdict !== 'ok' && verdict !== 'poison') return { kind: 'skip', reason: verdict };
  // On disk as well: numbers go on growing when Redis forgets them, and the child of an older attempt sees it too.
  await files.writeAttempt(id, number);
  const record = await untilAvailable(signal, () => store.read(id));
  if (record === null) return { kind: 'skip', reason: 'missing' };
  const attempt = createAttempt(store, record.spec, number, toldStep, signal);
  if (verdict === 'ok') attempt.event(message(startText(number), 'info', { attempt: number }));
  return { kind: verdict === 'ok' ? 'run' : 'poison', attempt };
}

function startText(attempt: number): string {
  return attempt === 1 ? 'Training has started.' : `Training goes on from the last checkpoint (attempt ${attempt}).`;
}

function createAttempt(store: JobStore, spec: JobSpec, number: number, toldStep: number, signal: AbortSignal): Attempt {
  const { keys } = store;
  const { id } = spec;
  const run = (script: Parameters<typeof runScript>[1], more: string[], args: (string | number)[]) =>
    store.connection.call((client) => runScript(client, script, [keys.job(id), ...more], [number, ...args]));
  const outbox = createOutbox(
    async () => void (await adopt(store, id)),
    (error) => store.logger.error({ err: error, job: id, attempt: number }, 'cannot tell of the job'),
  );
  const standing = async () => (await run(check, [], [])) as Standing;

  async function finish(status: 'succeeded' | 'failed', end: Partial<JobState>): Promise<void> {
    await outbox.flush(signal);
    await untilAvailable(signal, async () => {
      const now = await standing();
      if (now === 'final' || now === 'superseded') return;
      if (now === 'missing') await adopt(store, id);
      const record = await store.read(id);
      const checkpoints = await store.connection.call((client) => readCheckpoints(client, keys, id));
      if (record === null) return;
      const state = { ...record.state, ...end, status, attempt: number, finishedAt: unixSeconds() };
      await store.finish(id, { version: 1, state, checkpoints });
    });
  }

  return {
    number,
    spec,
    progress: (now) => outbox.latest('progress', () => run(progress, [], [JSON.stringify(now), now.step])),
    event(told) {
      const step = typeof told.data.step === 'number' ? told.data.step : '';
      // An attempt before this one has told of these steps.
      if (step !== '' && step <= toldStep) return;
      outbox.push(() => run(event, [keys.events(id)], [keys.channel, id, encodeEvent(told), step]));
    },
    checkpoint(made) {
      const whole: JobCheckpoint = { id: `ftckpt-${id.replace(/^ftjob-/, '')}-${made.step}`, ...made };
      outbox.push(() => run(checkpoint, [keys.checkpoints(id)], [made.model, JSON.stringify(whole)]));
    },
    checkpointRemoved: (model) => outbox.push(() => run(checkpoint, [keys.checkpoints(id)], [model, ''])),
    standing,
    async release(how) {
      await outbox.flush(signal);
      // Nothing that is told late may say that the job runs.
      outbox.close();
      return untilAvailable(signal, async () => (await run(release, [], [how, crashLimit])) as Standing | 'poison');
    },
    succeed: (result) => finish('succeeded', { result, error: null }),
    fail: (error) => finish('failed', { error }),
    close: () => outbox.close(),
  };
}

/** Tries again while Redis cannot be reached, until `signal` aborts. */
export async function untilAvailable<T>(signal: AbortSignal, work: () => Promise<T>): Promise<T> {
  for (;;) {
    try {
      return await work();
    } catch (error) {
      const isPassing = error instanceof PtunedError && error.code === 'queue_unavailable';
      if (!isPassing || signal.aborted) throw error;
      await setTimeout(500, undefined, { signal }).catch(() => {});
    }
  }
}
