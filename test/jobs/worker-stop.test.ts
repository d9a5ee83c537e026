import assert from 'node:assert/strict';
import { test } from 'node:test';
import { brisk, eventually, isAlive, tuningWorkers } from '../support/tuning-workers.ts';

const harness = tuningWorkers();
const { startWorker, submit, state, reached, reachedStep, steps, childPids } = harness;

test('a child that crashes is tried again from its checkpoint, and given up after 3 crashes without progress', async () => {
  await startWorker();
  const id = await submit({ steps: 20, every: 2, crash_at: 7 });
  const failed = await reached(id, 'failed', 20_000);
  assert.equal(failed.error?.code, 'worker_crashed');
  assert.match(failed.error!.message, /exit code 3, 3 times in a row without progress/);
  assert.equal(failed.attempt, 4, 'the first crash came after progress');
  const firsts = [1, 2, 3, 4].map(async (attempt) => (await steps(id)).find((made) => made.attempt === attempt)?.step);
  assert.deepEqual(await Promise.all(firsts), [1, 7, 7, 7]);
});

test('a child that makes no step, or is killed for want of memory, is tried again and the user told why', async () => {
  await startWorker(brisk, { PTUNED_STEP_SECONDS: '2' });
  for (const [metadata, why] of [
    [{ steps: 5, hang_at: 1 }, /made no step for 2 s/],
    [{ steps: 5, kill_at: 1 }, /SIGKILL.*want of memory/],
  ] as const) {
    const id = await submit(metadata);
    await eventually('the user is told', async () => {
      const { data: events } = await harness.jobs.events(id, { limit: 100 });
      return events.some(({ level, message }) => level === 'warn' && why.test(message));
    });
    await eventually('attempt 2 runs', async () => (await state(id)).attempt === 2);
    await harness.jobs.cancel(id, 'local');
  }
});

test('cancel stops the child, also one that does not listen', async () => {
  await startWorker();
  for (const metadata of [{ steps: 1000 }, { steps: 1000, deaf: 'yes' }]) {
    const id = await submit(metadata);
    await reachedStep(id, 3);
    const child = (await childPids()).findLast(isAlive)!;
    assert.equal((await harness.jobs.cancel(id, 'local')).state.status, 'cancelled');
    await eventually('the child has ended', async () => !isAlive(child), 7000);
    assert.equal((await state(id)).status, 'cancelled');
  }
  // The worker is free again.
  await reached(await submit({ steps: 2 }), 'succeeded');
});
