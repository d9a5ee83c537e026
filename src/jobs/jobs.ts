/** The jobs of the service as the API asks for them. State is in Redis; what must not be lost is on disk first. */
import { PtunedError } from '../errors.ts';
import type { JobCheckpoint, JobEvent, JobSpec, JobState } from './contract.ts';
import { finalStatuses } from './contract.ts';
import { createEventStream } from './event-stream.ts';
import { isJobId } from './job-files.ts';
import { listJobs } from './list.ts';
import { adopt, type Reconciled, reconcile, requeueJob } from './reconcile.ts';
import { encodeEvent, type JobRecord, message, readCheckpoints, unixSeconds } from './records.ts';
import { pause, runScript } from './scripts.ts';
import { createJobStore, type JobStore, type JobStoreOptions } from './store.ts';
import { submitJob } from './submit.ts';

export interface Job {
  spec: JobSpec;
  state: JobState;
}

export interface JobPage<T> {
  data: T[];
  hasMore: boolean;
}

export interface PageRequest {
  /** Id of the last item of the page before. */
  after?: string | undefined;
  limit: number;
}

export interface ListRequest extends PageRequest {
  /** Keeps the jobs that have all these pairs. */
  metadata?: Record<string, string> | undefined;
}

export interface SubmitOptions {
  /** Requests of one owner with one key make one job, for at least 24 hours. */
  idempotencyKey?: string | undefined;
  /** Hash of the request's body: the same key with another body is a conflict. */
  bodyHash: string;
}

export interface QueueCounts {
  waiting: number;
  active: number;
  delayed: number;
  failed: number;
}

/**
 * Every call throws `queue_unavailable` within 2.5 s when Redis hangs or is gone. Calls that take an owner answer
 * `job_not_found` for another owner's job; the others are for jobs that `get` has shown to be the owner's.
 */
export interface Jobs {
  /** Resolves once the job is on disk and queued. `created` is false when an earlier request had made it. */
  submit(spec: JobSpec, options: SubmitOptions): Promise<{ job: Job; created: boolean }>;
  get(id: string, owner: string): Promise<Job>;
  /** Newest first. */
  list(owner: string, request: ListRequest): Promise<JobPage<Job>>;
  /** Ends the job at once, wherever it is. Throws `conflict` when it has succeeded or failed. */
  cancel(id: string, owner: string): Promise<Job>;
  /** A running job writes a checkpoint and stops; a queued one does not start. */
  pause(id: string, owner: string): Promise<Job>;
  /** Queues a paused job again. */
  resume(id: string, owner: string): Promise<Job>;
  /** Newest first. */
  events(id: string, request: PageRequest): Promise<JobPage<JobEvent>>;
  /**
   * Oldest first from the first event, or after `afterEventId`, as they happen. Ends when the job is final and all
   * was told, or when `signal` aborts.
   */
  subscribe(id: string, afterEventId: string | undefined, signal: AbortSignal): AsyncIterable<JobEvent>;
  /** Newest first. */
  checkpoints(id: string): Promise<JobCheckpoint[]>;
  ping(): Promise<void>;
  counts(): Promise<QueueCounts>;
  /** Makes Redis know every job on disk, and queues those that are neither final, paused nor queued. */
  reconcile(): Promise<Reconciled>;
  close(): Promise<void>;
}

export function createJobs(options: JobStoreOptions): Jobs {
  const store = createJobStore(options);
  const { connection, keys, queue } = store;
  const stream = createEventStream({ connection, keys, url: options.redisUrl, logger: options.logger });
  const reconcileOnce = shared(() => reconcile(store));

  async function get(id: string, owner: string): Promise<JobRecord> {
    const record = isJobId(id) ? ((await store.read(id)) ?? (await adopt(store, id))) : null;
    if (record === null || record.spec.owner !== owner) {
      throw new PtunedError('job_not_found', `There is no job "${id}".`, { param: 'job_id' });
    }
    return record;
  }

  return {
    submit: (spec, request) => submitJob(store, reconcileOnce, spec, request),
    get,
    list: (owner, request) => listJobs(store, reconcileOnce, owner, request),
    async cancel(id, owner) {
      await cancelJob(store, await get(id, owner));
      return get(id, owner);
    },
    async pause(id, owner) {
      refuseFinal(await get(id, owner), 'paused');
      const event = encodeEvent(message('The job was paused.'));
      await connection.call((client) =>
        runScript(client, pause, [keys.job(id), keys.events(id)], [id, keys.channel, event]),
      );
      const job = await get(id, owner);
      refuseFinal(job, 'paused');
      return job;
    },
    async resume(id, owner) {
      refuseFinal(await get(id, owner), 'resumed');
      await requeueJob(store, id, 'paused', '', 'The job was resumed.');
      const job = await get(id, owner);
      refuseFinal(job, 'resumed');
      return job;
    },
    events: (id, request) => stream.page(id, request),
    subscribe: (id, afterEventId, signal) => stream.subscribe(id, afterEventId, signal),
    checkpoints: (id) => connection.call((client) => readCheckpoints(client, keys, id)),
    ping: () => connection.call(async (client) => void (await client.ping())),
    counts: () => queue.counts(),
    reconcile: reconcileOnce,
    async close() {
      stream.close();
      store.close();
    },
  };
}

async function cancelJob(store: JobStore, { spec, state }: JobRecord): Promise<void> {
  if (state.status === 'cancelled') return;
  const job = { spec, state };
  refuseFinal(job, 'cancelled');
  const checkpoints = await store.connection.call((client) => readCheckpoints(client, store.keys, spec.id));
  const end: JobState = { ...state, status: 'cancelled', finishedAt: unixSeconds() };
  const final = await store.finish(spec.id, { version: 1, state: end, checkpoints });
  if (final.state.status !== 'cancelled') refuseFinal({ spec, state: final.state }, 'cancelled');
}

function refuseFinal({ spec, state }: Job, participle: string): void {
  if (!finalStatuses.includes(state.status)) return;
  throw new PtunedError('conflict', `Job "${spec.id}" is ${state.status} and cannot be ${participle}.`, {
    param: 'job_id',
  });
}

/** Calls that come while one is under way share its outcome. */
function shared<T>(work: () => Promise<T>): () => Promise<T> {
  let running: Promise<T> | null = null;
  return () => {
    running ??= work().finally(() => {
      running = null;
    });
    return running;
  };
}
