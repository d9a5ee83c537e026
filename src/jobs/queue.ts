/** The BullMQ queue: how entries are made, and which are still alive. */
import { randomBytes } from 'node:crypto';
import { Queue, type QueueOptions, type WorkerOptions } from 'bullmq';
import type { Connection } from './connection.ts';
import type { QueueCounts } from './jobs.ts';
import { type Keys, queueName } from './keys.ts';

/** What a queue entry carries: the job is on disk, its state in the record. */
export interface QueueEntry {
  job: string;
  /** Only the entry that the record names may run the job; so a duplicate never does. */
  entry: string;
}

export interface JobQueue {
  add(id: string, entry: string): Promise<void>;
  /** Ids `entryId(job, entry)` of all that wait or run. */
  alive(): Promise<Set<string>>;
  counts(): Promise<QueueCounts>;
}

/** Finished entries say nothing that the job's record does not; a few are kept to look at. */
const retention = { removeOnComplete: { count: 100 }, removeOnFail: { count: 1000, age: 7 * 86_400 } };

/** A dead worker's job starts elsewhere after at most lock + 2 intervals: 20 s. Stalled entries are never given up. */
export const workerSettings = {
  lockDuration: 10_000,
  stalledInterval: 5_000,
  maxStalledCount: 1_000_000,
  drainDelay: 5,
  runRetryDelay: 1000,
  ...retention,
} satisfies Partial<WorkerOptions>;

export function newEntry(): string {
  return randomBytes(8).toString('hex');
}

export function entryId(id: string, entry: string): string {
  return `${id}.${entry}`;
}

export function createJobQueue(connection: Connection, keys: Keys): JobQueue {
  let made: Queue<QueueEntry> | null = null;
  /** The connection is ready when this is called, so nothing waits in BullMQ for longer than a command may take. */
  const queue = () => {
    if (made === null) {
      made = new Queue<QueueEntry>(queueName, queueOptions(connection, keys));
      made.on('error', () => {});
    }
    return made;
  };
  return {
    add: (id, entry) =>
      connection.call(async () => {
        await queue().add('tune', { job: id, entry }, { jobId: entryId(id, entry), attempts: 1 });
      }),
    alive: () =>
      connection.call(async () => {
        const ids = await queue().getRanges(['waiting', 'active', 'delayed', 'prioritized'], 0, -1);
        return new Set(ids);
      }),
    counts: () =>
      connection.call(async () => {
        const { waiting, active, delayed, failed } = await queue().getJobCounts(
          'waiting',
          'active',
          'delayed',
          'failed',
        );
        return { waiting: waiting ?? 0, active: active ?? 0, delayed: delayed ?? 0, failed: failed ?? 0 };
      }),
  };
}

function queueOptions({ client }: Connection, keys: Keys): QueueOptions {
  return {
    connection: client,
    prefix: keys.queuePrefix,
    skipVersionCheck: true,
    defaultJobOptions: { ...retention },
  };
}
