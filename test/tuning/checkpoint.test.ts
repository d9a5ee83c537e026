import assert from 'node:assert/strict';
import fs from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { createCheckpointStore } from '../../src/tuning/checkpoint.ts';
import { copyParameters, initialState, type TrainingState } from '../../src/tuning/state.ts';
import { noise, temporaryDirectory } from '../support/fake-tuning.ts';

function exampleState(step: number): TrainingState {
  const values = (seed: number, count: number): Float32Array =>
    Float32Array.from({ length: count }, (_, i) => noise(seed + step, i));
  const state = initialState(
    new Map([
      ['mlp.2.bias', { shape: [4], values: values(1, 4) }],
      ['embedding.weight', { shape: [2, 4], values: values(2, 8) }],
    ]),
    { threads: 2, contextBytes: 2 ** 30 },
  );
  state.optimizer = {
    step,
    m: new Map([...state.parameters.keys()].map((name, k) => [name, values(3 + k, name === 'mlp.2.bias' ? 4 : 8)])),
    v: new Map([...state.parameters.keys()].map((name, k) => [name, values(5 + k, name === 'mlp.2.bias' ? 4 : 8)])),
  };
  const best = {
    step: step - 1,
    parameters: copyParameters(state.parameters),
    table: values(9, 8),
    metrics: { p: 0.5 },
  };
  return {
    ...state,
    step,
    best,
    stopping: { baseline: 0.25, best: 0.5, bestStep: step - 1, bestLoss: 0.7, sinceBest: 1 },
    lossScale: { scale: 4096, good: step },
    evaluatedStep: step,
    devMetrics: { p: 0.1, loss: 1 / 3 },
    manualDev: { p: 0.2, loss: 0.1 + 0.2 },
    lossSum: 1.1,
    lossCount: 3,
    trainedTokens: 999,
    stepSeconds: 0.5,
    seconds: 1.5,
    published: [2, 4],
  };
}

const storeIn = (directory: string, attempt = 1, fingerprint = 'f') =>
  createCheckpointStore({ directory, attempt, fingerprint });

test('a state comes back exactly', async (t) => {
  const directory = join(await temporaryDirectory(t), 'checkpoint');
  assert.deepEqual(await storeIn(directory).load(), { state: null, damaged: [] });
  await storeIn(directory).save(exampleState(7));
  const { state } = await storeIn(directory, 2).load();
  assert.deepEqual(state, exampleState(7));
  const first = { ...exampleState(0), best: null, devMetrics: null, manualDev: null };
  await storeIn(directory, 2).save(first);
  assert.deepEqual((await storeIn(directory, 3).load()).state, first);
});

test('two checkpoints are kept and what a dead writer left is swept', async (t) => {
  const directory = await temporaryDirectory(t);
  await fs.mkdir(join(directory, '.000001-00000009'));
  for (const step of [1, 2, 3, 4]) await storeIn(directory).save(exampleState(step));
  assert.deepEqual((await fs.readdir(directory)).sort(), ['000001-00000003', '000001-00000004']);
});

test('of two attempts the newer counts, whatever it has written', async (t) => {
  const directory = await temporaryDirectory(t);
  const [older, newer] = [storeIn(directory, 1), storeIn(directory, 2)];
  await older.claim();
  await older.save(exampleState(50));
  await newer.claim();
  for (const late of [() => older.save(exampleState(60)), older.checkNewest, older.claim]) {
    await assert.rejects(late(), /superseded by attempt 2/);
  }
  assert.equal((await newer.load()).state!.step, 50);
  await newer.save(exampleState(3));
  assert.equal((await storeIn(directory, 3).load()).state!.step, 3);
});

test('of 1,000 damaged checkpoints none is read, and the one before it is', async (t) => {
  const source = await temporaryDirectory(t);
  for (const step of [1, 2]) await storeIn(source).save(exampleState(step));
  const [older, newer] = (await fs.readdir(source)).sort() as [string, string];
  const names = ['state.safetensors', 'checkpoint.json'] as const;
  const whole = await Promise.all(names.map((name) => fs.readFile(join(source, newer, name))));
  const expected = exampleState(1);
  for (let round = 0; round < 1000; round++) {
    await fs.mkdir(join(source, newer), { recursive: true });
    for (const [k, name] of names.entries()) {
      const bytes = Buffer.from(whole[k]!);
      const at = Math.floor(((noise(round, k) + 1) / 2) * bytes.length);
      if (k === round % 2) bytes[at]! ^= 1 << (round % 8);
      await fs.writeFile(join(source, newer, name), round % 10 < 2 && k === round % 2 ? bytes.subarray(0, at) : bytes);
    }
    const { state, damaged } = await storeIn(source, 2).load();
    assert.deepEqual(damaged, [newer], `round ${round}`);
    assert.equal(state!.step, 1);
    if (round % 100 === 0) assert.deepEqual(state, expected);
  }
  assert.deepEqual(await fs.readdir(source), [older]);
});

test('a checkpoint of another run or version is not read', async (t) => {
  const directory = await temporaryDirectory(t);
  await storeIn(directory, 1, 'one').save(exampleState(5));
  const { state, damaged } = await storeIn(directory, 2, 'other').load();
  assert.equal(state, null);
  assert.equal(damaged.length, 1);
});
