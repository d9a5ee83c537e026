/** Children that live on for the next job of their LM, and that train several jobs at once. */
import assert from 'node:assert/strict';
import fs from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout } from 'node:timers/promises';
import { brisk, eventually, isAlive, tuningWorkers } from '../support/tuning-workers.ts';

const harness = tuningWorkers();
const { startWorker, submit, state, reached, reachedStep, steps } = harness;

/** The processes that trained a job, in order. */
async function pidsOf(id: string): Promise<number[]> {
  const text = await fs.readFile(join(harness.data, 'jobs', id, 'pids'), 'utf8');
  return text.trim().split('\n').map(Number);
}

const otherLm = { model: 'demo-causal', modelHash: 'hash-of-demo-causal' };
const stays = 'yes';

test('a child trains the next job of its LM, ends for one of another, and ends when it was idle for long', async () => {
  const worker = await startWorker(brisk, { PTUNED_KEEP_SECONDS: '2' });
  const ids = [await submit({ steps: 2, stays }), await submit({ fail: 'invalid_data', stays })];
  ids.push(await submit({ steps: 2, stays }), await submit({ steps: 2, stays }, otherLm));
  await reached(ids[3]!, 'succeeded', 20_000);
  const [first, failed, third, other] = (await Promise.all(ids.map(pidsOf))).map(([pid]) => pid!);
  assert.deepEqual([failed, third], [first, first]);
  assert.notEqual(other, first);
  assert.ok(!isAlive(first!), 'there is one slot');
  assert.ok(isAlive(other!));
  await eventually('the idle child has ended', async () => !isAlive(other!), 5000);
  const again = await submit({ steps: 2, stays });
  await reached(again, 'succeeded');
  const [pid] = await pidsOf(again);
  worker.kill('SIGKILL');
  await eventually('the idle child has ended with its worker', async () => !isAlive(pid!), 3000);
});

test('a child that died while idle, or that broke down, is not given the next job', async () => {
  await startWorker();
  const first = await submit({ steps: 2, stays });
  await reached(first, 'succeeded');
  process.kill((await pidsOf(first))[0]!, 'SIGKILL');
  for (const metadata of [{ fail: 'internal' }, { steps: 5, kill_at: 1 }]) {
    const broken = await submit({ ...metadata, stays });
    await eventually('an attempt was made', async () => (await pidsOf(broken).catch(() => [])).length > 0);
    const [pid] = await pidsOf(broken);
    // The one that failed has ended; the one that was killed would be tried again.
    await harness.jobs.cancel(broken, 'local').catch(({ code }) => assert.equal(code, 'conflict'));
    const next = await submit({ steps: 2, stays });
    await reached(next, 'succeeded', 20_000);
    assert.notEqual((await pidsOf(next))[0], pid);
    assert.equal(Number((await harness.raw.hget(`ptuned:job:${next}`, 'crashes')) ?? 0), 0);
  }
});

test('PTUNED_PACKING: jobs of one LM run at once in one child; one of another LM waits for its turn', async () => {
  await startWorker(brisk, { PTUNED_PACKING: '3' });
  const long = { steps: 200, ms: 30, stays };
  const packed = [await submit(long), await submit(long)];
  for (const id of packed) await reachedStep(id, 2);
  const other = await submit({ steps: 2, stays }, otherLm);
  const late = await submit({ steps: 2, stays });
  await setTimeout(3000);
  // First come, first served: the late one fits in, but would let the other wait for ever.
  for (const id of [other, late]) assert.equal((await state(id)).status, 'queued');
  for (const id of [...packed, other, late]) assert.equal((await reached(id, 'succeeded', 20_000)).attempt, 1);
  assert.deepEqual(await pidsOf(packed[1]!), await pidsOf(packed[0]!));
  const last = async (id: string) => (await state(id)).finishedAt!;
  assert.ok((await last(other)) <= (await last(late)), 'in their order');
});

test('one of several jobs in a child that is paused or cancelled leaves the others running', async () => {
  await startWorker(brisk, { PTUNED_PACKING: '3' });
  const long = { steps: 120, ms: 30, stays };
  const [kept, paused, cancelled] = [await submit(long), await submit(long), await submit(long)];
  for (const id of [kept, paused, cancelled]) await reachedStep(id, 2);
  await harness.jobs.pause(paused, 'local');
  await harness.jobs.cancel(cancelled, 'local');
  const joining = await submit({ steps: 3, stays });
  await reached(joining, 'succeeded');
  await harness.jobs.resume(paused, 'local');
  for (const id of [kept, paused]) await reached(id, 'succeeded', 20_000);
  assert.equal((await state(kept)).attempt, 1);
  assert.equal((await state(cancelled)).status, 'cancelled');
  assert.deepEqual(await pidsOf(joining), await pidsOf(kept));
  assert.deepEqual(
    (await steps(paused)).map(({ step }) => step),
    Array.from({ length: 120 }, (_, index) => index + 1),
  );
});

test('a child that dies takes none of its jobs along: each goes on alone, and only the one at fault is given up', async () => {
  await startWorker(brisk, { PTUNED_PACKING: '3' });
  const good = await submit({ steps: 60, ms: 30, stays });
  await reachedStep(good, 2);
  const poison = await submit({ steps: 60, ms: 30, crash_at: 1, stays });
  const failed = await reached(poison, 'failed', 30_000);
  assert.equal(failed.error?.code, 'worker_crashed');
  assert.equal((await reached(good, 'succeeded', 30_000)).attempt, 2);
});
