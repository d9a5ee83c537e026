/** Brings Redis back to what is on disk: an accepted job is never lost, whatever the queue forgot. */
import { randomUUID } from 'node:crypto';
import { entryId, newEntry } from './queue.ts';
import { encodeEvent, type JobRecord, message, queuedState, readRecords } from './records.ts';
import { confirm, requeue, runScript } from './scripts.ts';
import type { JobStore } from './store.ts';

export interface Reconciled {
  adopted: number;
  requeued: number;
  removed: number;
}

/** An entry younger than this may still be on its way into the queue. */
const graceMilliseconds = 10_000;
const chunk = 500;

/** Makes Redis know every job on disk, and queues those that are neither final, paused nor queued. */
export async function reconcile(store: JobStore): Promise<Reconciled> {
  let adopted = 0;
  for (let isComplete = false; !isComplete; ) {
    const mark = store.keys.scan(randomUUID());
    await store.connection.call((client) => client.set(mark, '1', 'EX', 3600));
    adopted += await adoptAll(store);
    // Without the mark Redis lost everything meanwhile, and what was looked at first is unknown again.
    const verdict = await store.connection.call((client) => runScript(client, confirm, [mark, store.keys.known], []));
    isComplete = verdict === 'ok';
  }
  return { adopted, ...(await checkOpen(store)) };
}

async function adoptAll(store: JobStore): Promise<number> {
  const ids = await store.files.ids();
  let adopted = 0;
  for (let start = 0; start < ids.length; start += chunk) {
    const part = ids.slice(start, start + chunk);
    const known = await store.connection.call(async (client) => {
      const pipeline = client.pipeline();
      for (const id of part) pipeline.exists(store.keys.job(id));
      return (await pipeline.exec()) ?? [];
    });
    for (const [index, id] of part.entries()) {
      const [error, count] = known[index]!;
      if (error !== null) throw error;
      if (count === 0 && (await adopt(store, id)) !== null) adopted++;
    }
  }
  return adopted;
}

/** Rebuilds the record of a job that is on disk, and queues it unless it is final; null when it is not there. */
export async function adopt(store: JobStore, id: string): Promise<JobRecord | null> {
  const spec = await store.files.readSpec(id);
  if (spec === null) return null;
  const final = await store.files.readFinal(id);
  const state = final?.state ?? queuedState(await store.files.readAttempt(id));
  const createdAt = await store.files.createdAt(id);
  const record: JobRecord = { spec, state, entry: newEntry(), queuedAt: Date.now(), isAlone: false };
  const verdict = await store.create(record, createdAt, message('The record of the job was restored from disk.'));
  if (verdict === 'taken') {
    store.logger.warn({ job: id }, 'job on disk lost its idempotency key to another; it is dropped');
    await store.files.remove(id);
    return null;
  }
  if (verdict === 'exists') return store.read(id);
  if (final === null) await store.queue.add(id, record.entry);
  else await store.publishEnd(id, final);
  return record;
}

async function checkOpen(store: JobStore): Promise<{ requeued: number; removed: number }> {
  const { connection, keys } = store;
  const ids = await connection.call((client) => client.smembers(keys.open));
  const records: { id: string; record: JobRecord | null }[] = [];
  for (let start = 0; start < ids.length; start += chunk) {
    const part = ids.slice(start, start + chunk);
    const read = await connection.call((client) => readRecords(client, keys, part));
    for (const [index, id] of part.entries()) records.push({ id, record: read[index] ?? null });
  }
  // Read after the records: an entry that left the queue since then has also changed its record.
  const alive = await store.queue.alive();
  let requeued = 0;
  let removed = 0;
  for (const { id, record } of records) {
    const verdict = await checkJob(store, id, record, alive);
    if (verdict === 'requeued') requeued++;
    if (verdict === 'removed') removed++;
  }
  return { requeued, removed };
}

async function checkJob(store: JobStore, id: string, record: JobRecord | null, alive: Set<string>) {
  if (record === null || !(await store.files.exists(id))) {
    await forget(store, id, record);
    return 'removed';
  }
  const final = await store.files.readFinal(id);
  if (final !== null) {
    await store.publishEnd(id, final);
    return 'ended';
  }
  const isYoung = Date.now() - record.queuedAt < graceMilliseconds;
  if (record.state.status === 'paused' || alive.has(entryId(id, record.entry)) || isYoung) return 'fine';
  const text = 'The queue had lost the job; it was queued again.';
  return (await requeueJob(store, id, 'lost', record.entry, text)) ? 'requeued' : 'fine';
}

/** A request that was refused because Redis did not answer in time, but whose commands landed later. */
async function forget({ connection, keys }: JobStore, id: string, record: JobRecord | null): Promise<void> {
  await connection.call(async (client) => {
    await client.srem(keys.open, id);
    if (record !== null) await client.zrem(keys.owner(record.spec.owner), id);
    await client.del(keys.job(id), keys.events(id), keys.checkpoints(id));
  });
}

/** Gives the job a new queue entry; false when it is not paused, or its entry has changed, as `from` says. */
export async function requeueJob(
  { connection, keys, queue }: JobStore,
  id: string,
  from: 'paused' | 'lost',
  entryBefore: string,
  text: string,
): Promise<boolean> {
  const entry = newEntry();
  const event = encodeEvent(message(text));
  const verdict = await connection.call((client) =>
    runScript(
      client,
      requeue,
      [keys.job(id), keys.events(id)],
      [id, keys.channel, event, from, entryBefore, entry, Date.now()],
    ),
  );
  if (verdict !== 'made') return false;
  await queue.add(id, entry);
  return true;
}
