/** Takes a job: on disk first, then in Redis, then in the queue; one job for all requests with one idempotency key. */
import { setTimeout } from 'node:timers/promises';
import { PtunedError } from '../errors.ts';
import type { JobSpec } from './contract.ts';
import type { Job, SubmitOptions } from './jobs.ts';
import { newEntry } from './queue.ts';
import { message, queuedState } from './records.ts';
import { reserve, runScript } from './scripts.ts';
import { idempotencySeconds, idempotencyValue, type JobStore } from './store.ts';

/** How long a request waits for the one that holds its key, before it takes that one for dead. */
const patienceMilliseconds = 2000;

export async function submitJob(
  store: JobStore,
  reconcile: () => Promise<unknown>,
  spec: JobSpec,
  { idempotencyKey, bodyHash }: SubmitOptions,
): Promise<{ job: Job; created: boolean }> {
  if (idempotencyKey === undefined) return { job: await createJob(store, spec), created: true };
  const keyed = { ...spec, idempotency: { key: idempotencyKey, bodyHash } };
  const mine = idempotencyValue(keyed);
  let replaced = '';
  for (;;) {
    const holder = await reserveKey(store, reconcile, keyed, replaced);
    if (holder === mine) {
      const job = await createJob(store, keyed);
      if (job !== null) return { job, created: true };
      continue;
    }
    const [holderId, holderHash] = holder.split(' ') as [string, string];
    if (holderHash !== bodyHash) {
      throw new PtunedError(
        'conflict',
        'this Idempotency-Key was used with another request body; use a new key for a new job.',
        { param: 'Idempotency-Key' },
      );
    }
    const job = await awaitJob(store, holderId);
    if (job !== null) return { job, created: false };
    replaced = holder;
  }
}

/** The value that holds the key: ours when it was free, or held by `replaced`. */
async function reserveKey(store: JobStore, reconcile: () => Promise<unknown>, spec: JobSpec, replaced: string) {
  const { connection, keys } = store;
  const key = keys.idempotency(spec.owner, spec.idempotency!.key);
  for (;;) {
    const holder = await connection.call((client) =>
      runScript(client, reserve, [key, keys.known], [idempotencyValue(spec), replaced, idempotencySeconds]),
    );
    if (holder !== 'unknown') return holder as string;
    await reconcile();
  }
}

async function awaitJob(store: JobStore, id: string): Promise<Job | null> {
  const end = Date.now() + patienceMilliseconds;
  for (;;) {
    const record = await store.read(id);
    if (record !== null) return record;
    if (Date.now() > end) return null;
    await setTimeout(25);
  }
}

async function createJob(store: JobStore, spec: JobSpec): Promise<Job>;
async function createJob(store: JobStore, spec: JobSpec): Promise<Job | null>;
/** Null when another request has taken the idempotency key over. What is not queued in the end is not kept. */
async function createJob(store: JobStore, spec: JobSpec): Promise<Job | null> {
  const entry = newEntry();
  const record = { spec, state: queuedState(0), entry, queuedAt: Date.now(), isAlone: false };
  await store.files.create(spec);
  try {
    const verdict = await store.create(record, record.queuedAt, message('The job was accepted.'));
    if (verdict === 'taken') {
      await store.files.remove(spec.id);
      return null;
    }
    // 'exists': a reconciler that found the job on disk was faster, and has queued it.
    if (verdict === 'created') await store.queue.add(spec.id, entry);
  } catch (error) {
    await store.files.remove(spec.id);
    throw error;
  }
  return record;
}
