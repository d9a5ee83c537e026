/** Takes jobs from the queue and trains each in a child process, so that this process always renews its locks. */
import { setTimeout } from 'node:timers/promises';
import { type Job as BullJob, WaitingError, Worker, type WorkerOptions } from 'bullmq';
import { Redis } from 'ioredis';
import type { Config } from '../../src/config.ts';
import { type FailureRecord, failures } from '../../src/errors.ts';
import { type Attempt, claimJob, crashLimit, lossLimit, untilAvailable } from '../../src/jobs/attempts.ts';
import { reconnection } from '../../src/jobs/connection.ts';
import { queueName } from '../../src/jobs/keys.ts';
import { type QueueEntry, workerSettings } from '../../src/jobs/queue.ts';
import { adopt, reconcile } from '../../src/jobs/reconcile.ts';
import { message } from '../../src/jobs/records.ts';
import { createJobStore, type JobStore } from '../../src/jobs/store.ts';
import type { Logger } from '../../src/logger.ts';
import { reconcileRegularly } from '../reconcile.ts';
import type { ChildOutcome, TrainingJob } from './child.ts';
import type { InputConfig } from './inputs.ts';
import { createChildPool, type PlaceRequest } from './pool.ts';
import { patience, trainInChild } from './train.ts';

export interface TuningWorkerOptions {
  config: InputConfig & Pick<Config, 'tuningSlots' | 'packing' | 'keepSeconds' | 'stepSeconds'>;
  redisUrl: string;
  logger: Logger;
  /** Path of the training child's script. */
  childScript: string;
  /** Other than those of production. */
  settings?: Partial<WorkerOptions>;
}

export interface TuningWorker {
  /** Resolves when it takes jobs. */
  ready(): Promise<void>;
  /** Lets every child write a checkpoint, gives the jobs back and ends: within 10 s. */
  close(): Promise<void>;
}

/** A worker keeps a job that waits for others of its own so long, then any worker may have it. */
const placeMilliseconds = 2000;
/** Before a job whose child broke off is tried again. */
const crashMilliseconds = 1000;

export function createTuningWorker(options: TuningWorkerOptions): TuningWorker {
  const { config, redisUrl, logger } = options;
  const store = createJobStore({ redisUrl, dataDirectory: config.dataDirectory, logger });
  const connection = new Redis(redisUrl, { ...reconnection, maxRetriesPerRequest: null });
  connection.on('error', (error) => logger.debug({ err: error }, 'redis connection'));
  const running = new Set<TrainingJob>();
  const closing = new AbortController();
  const pool = createChildPool({ script: options.childScript, config });

  async function handle(entry: BullJob<QueueEntry>, token: string | undefined): Promise<string> {
    const request = await untilAvailable(closing.signal, () => placeRequest(store, entry.data.job));
    if (request === null) return 'missing';
    // Before it is claimed: a job that has to wait for other jobs is still queued, and another worker may have it.
    const place = await pool.place(request, placeMilliseconds);
    if (place === null) return giveBack(entry, token);
    const claim = await claimJob(store, entry.data.job, entry.data.entry, closing.signal).catch((error) => {
      place.leave();
      throw error;
    });
    if (claim.kind !== 'run') place.leave();
    if (claim.kind === 'skip') return claim.reason;
    const { attempt } = claim;
    const log = logger.child({ job: attempt.spec.id, attempt: attempt.number });
    try {
      if (claim.kind === 'poison') {
        await attempt.fail(givenUp(`${lossLimit} workers in a row died with it, without progress`));
        return 'failed';
      }
      const outcome = await trainInChild(attempt, { config, place, running, closing: closing.signal, log });
      log.info({ outcome: outcome.kind }, 'training has ended');
      const verdict = await settle(attempt, outcome, log);
      if (verdict !== 'queued') return verdict;
      // What broke a child off may pass; asking at once would use the attempts up.
      if (outcome.kind === 'crashed' || outcome.kind === 'failed')
        await setTimeout(crashMilliseconds, undefined, { signal: closing.signal }).catch(() => {});
    } finally {
      attempt.close();
    }
    return giveBack(entry, token);
  }

  async function giveBack(entry: BullJob<QueueEntry>, token: string | undefined): Promise<never> {
    await untilAvailable(closing.signal, () => entry.moveToWait(token));
    throw new WaitingError();
  }

  const worker = new Worker<QueueEntry, string>(queueName, handle, {
    ...workerSettings,
    ...options.settings,
    connection,
    prefix: store.keys.queuePrefix,
    concurrency: config.tuningSlots * config.packing,
  });
  worker.on('error', (error) => logger.warn({ err: error }, 'queue'));
  worker.on('failed', (entry, error) => logger.error({ err: error, job: entry?.data.job }, 'queue entry failed'));
  const stopReconciling = reconcileRegularly(() => reconcile(store), logger);

  return {
    ready: async () => void (await worker.waitUntilReady()),
    async close() {
      closing.abort();
      stopReconciling();
      pool.close();
      for (const job of running) job.stop('hand-back', patience.closing);
      await worker.close();
      store.close();
      connection.disconnect();
    },
  };
}

/** What a job needs of a child; null when neither Redis nor the disk knows it. */
async function placeRequest(store: JobStore, id: string): Promise<PlaceRequest | null> {
  const record = (await store.read(id)) ?? (await adopt(store, id));
  if (record === null) return null;
  const { model, modelHash } = record.spec;
  return { job: id, lm: `${modelHash} ${model}`, order: record.queuedAt, isAlone: record.isAlone };
}

/** Records how the attempt ended; 'queued' when the entry goes back to the queue. */
async function settle(attempt: Attempt, outcome: ChildOutcome, log: Logger): Promise<string> {
  switch (outcome.kind) {
    case 'succeeded':
      await attempt.succeed(outcome.result);
      return 'succeeded';
    case 'failed':
      if (!failures[outcome.error.code].retryable) {
        log.warn({ code: outcome.error.code }, outcome.error.message);
        await attempt.fail(outcome.error);
        return 'failed';
      }
      return again(attempt, outcome.error.message, outcome.error);
    case 'stopped':
      return attempt.release('hand-back');
    case 'crashed':
      log.error({ how: outcome.how }, 'training child crashed');
      return again(
        attempt,
        `the process ${outcome.how}.`,
        givenUp(`its training process ${outcome.how}, ${crashLimit} times in a row without progress`),
      );
  }
}

/** Another attempt, unless too many in a row broke off without progress. */
async function again(attempt: Attempt, how: string, error: FailureRecord): Promise<string> {
  attempt.event(message(`Training broke off: ${how}`, 'warn', { attempt: attempt.number }));
  const verdict = await attempt.release('crash');
  if (verdict !== 'poison') return verdict;
  await attempt.fail(error);
  return 'failed';
}

function givenUp(why: string): FailureRecord {
  return { code: 'worker_crashed', message: `The job was given up: ${why}.`, param: null };
}
