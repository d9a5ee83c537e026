import assert from 'node:assert/strict';
import { once } from 'node:events';
import fs from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { eventually, isAlive, tuningWorkers } from '../support/tuning-workers.ts';

const harness = tuningWorkers();
const { startWorker, submit, state, reached, reachedStep, steps, childPids } = harness;

test('kill -9 of a worker: its child ends, and another worker goes on from the checkpoint', async () => {
  const first = await startWorker();
  const id = await submit({ steps: 60, ms: 50, every: 5 });
  await reachedStep(id, 12);
  const [child] = await childPids();
  first.kill('SIGKILL');
  await eventually('the child has ended with its worker', async () => !isAlive(child!), 3000);
  const saved = Number(await fs.readFile(join(harness.data, 'jobs', id, 'checkpoint', 'step'), 'utf8'));
  assert.ok(saved >= 10);
  await startWorker();
  const done = await reached(id, 'succeeded', 20_000);
  assert.equal(done.attempt, 2);
  assert.equal((await steps(id)).find(({ attempt }) => attempt === 2)!.step, saved + 1);
});

test('kill -9 with the settings of production: restarted elsewhere within 20 s', async () => {
  const first = await startWorker({});
  const id = await submit({ steps: 1000, ms: 50, every: 1 });
  await reachedStep(id, 3);
  await startWorker({});
  first.kill('SIGKILL');
  await eventually('attempt 2 runs', async () => (await state(id)).attempt === 2, 20_000);
  assert.equal((await harness.jobs.cancel(id, 'local')).state.status, 'cancelled');
});

test('SIGTERM: exits with 0, and another worker goes on at once from that very step', async () => {
  const first = await startWorker();
  const id = await submit({ steps: 100, ms: 50 });
  await reachedStep(id, 4);
  await startWorker();
  const begun = Date.now();
  first.kill('SIGTERM');
  const [code] = await once(first, 'exit');
  assert.equal(code, 0);
  assert.ok(Date.now() - begun < 10_000);
  await eventually('attempt 2 runs', async () => (await steps(id)).some(({ attempt }) => attempt === 2), 3000);
  const told = await steps(id);
  const last = told.filter(({ attempt }) => attempt === 1).at(-1)!.step;
  assert.equal(told.find(({ attempt }) => attempt === 2)!.step, last + 1);
  assert.equal(Number(await harness.raw.hget(`ptuned:job:${id}`, 'losses')), 0, 'no loss is charged');
  await harness.jobs.cancel(id, 'local');
});

test('a worker frozen past its lock changes nothing when it wakes', async () => {
  const frozen = await startWorker();
  const id = await submit({ steps: 150, ms: 30, every: 10 });
  await reachedStep(id, 5);
  const [old] = await childPids();
  frozen.kill('SIGSTOP');
  await startWorker();
  await eventually('attempt 2 runs', async () => (await state(id)).attempt === 2);
  await eventually('attempt 2 is heard', async () => (await steps(id)).some(({ attempt }) => attempt === 2));
  frozen.kill('SIGCONT');
  await eventually('the old child has ended', async () => !isAlive(old!));
  const done = await reached(id, 'succeeded', 15_000);
  assert.equal(done.attempt, 2);
});
