import assert from 'node:assert/strict';
import fs from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { brisk, eventually, isAlive, tuningWorkers } from '../support/tuning-workers.ts';

const harness = tuningWorkers();
const { startWorker, submit, state, reached, reachedStep, steps, childPids } = harness;

test('a job is trained to its end', async () => {
  await startWorker();
  const id = await submit({ steps: 5 });
  const done = await reached(id, 'succeeded');
  assert.equal(done.attempt, 1);
  assert.equal(done.progress?.step, 5);
  assert.equal(done.result?.bestStep, 50);
  assert.ok(done.startedAt !== null && done.finishedAt !== null);
  const final = JSON.parse(await fs.readFile(join(harness.data, 'jobs', id, 'result.json'), 'utf8'));
  assert.equal(final.state.status, 'succeeded');
});

test('a step three times as long as the lock completes once', async () => {
  await startWorker();
  await startWorker();
  const id = await submit({ steps: 2, block_ms: 3 * brisk.lockDuration });
  const done = await reached(id, 'succeeded', 15_000);
  assert.equal(done.attempt, 1);
  assert.deepEqual(await steps(id), [
    { attempt: 1, step: 1 },
    { attempt: 1, step: 2 },
  ]);
});

test('a failure of the job is recorded with its code and not tried again', async () => {
  await startWorker();
  const id = await submit({ fail: 'loss_not_finite' });
  const failed = await reached(id, 'failed');
  assert.equal(failed.error?.code, 'loss_not_finite');
  assert.equal(failed.attempt, 1);
  const gone = await submit({}, { trainingFile: 'file-00000000000000000000dead' });
  assert.equal((await reached(gone, 'failed')).error?.code, 'file_not_found');
  const other = await submit({}, { modelHash: 'another' });
  assert.equal((await reached(other, 'failed')).error?.code, 'model_mismatch');
});

test('pause keeps the step, resume goes on from it', async () => {
  await startWorker();
  const id = await submit({ steps: 60, ms: 20 });
  await reachedStep(id, 3);
  await harness.jobs.pause(id, 'local');
  const [child] = await childPids();
  await eventually('the child has ended', async () => !isAlive(child!));
  assert.equal((await state(id)).status, 'paused');
  await reached(await submit({ steps: 2 }), 'succeeded');
  assert.equal((await state(id)).status, 'paused');
  await harness.jobs.resume(id, 'local');
  const done = await reached(id, 'succeeded');
  assert.equal(done.attempt, 2);
  const told = await steps(id);
  assert.deepEqual(
    told.map(({ step }) => step),
    Array.from({ length: 60 }, (_, index) => index + 1),
  );
});

test('FLUSHALL while a job runs and others wait: all end well', async () => {
  await startWorker();
  const ids = [await submit({ steps: 40, ms: 20 }), await submit({ steps: 2 }), await submit({ steps: 2 })];
  await reachedStep(ids[0]!, 5);
  await harness.raw.flushall();
  await harness.jobs.reconcile();
  for (const id of ids) await reached(id, 'succeeded', 15_000);
});
