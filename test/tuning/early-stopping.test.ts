import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isExhausted, observe, startEarlyStopping } from '../../src/tuning/early-stopping.ts';

const after = (evaluations: [score: number, loss: number][]) =>
  evaluations.reduce((state, [score, loss], k) => observe(state, k * 10, { score, loss }), startEarlyStopping());

test('the untrained score is the baseline and may stay the best', () => {
  const state = after([
    [0.5, 1],
    [0.4, 0.9],
    [0.5, 1],
    [0.3, 0.1],
  ]);
  assert.deepEqual(state, { baseline: 0.5, best: 0.5, bestStep: 0, bestLoss: 1, sinceBest: 3 });
});

test('only a strict gain restarts the patience', () => {
  const state = after([
    [0.1, 3],
    [0.3, 2],
    [0.3, 2],
    [0.3, 2.5],
  ]);
  assert.equal(state.bestStep, 10);
  assert.equal(state.sinceBest, 2);
  assert.equal(isExhausted(state, 2), true);
  assert.equal(isExhausted(state, 3), false);
  const next = observe(state, 40, { score: 0.31, loss: 9 });
  assert.deepEqual(next, { baseline: 0.1, best: 0.31, bestStep: 40, bestLoss: 9, sinceBest: 0 });
});

test('of equal scores the lower dev loss is kept, without new patience; of equal losses the earlier', () => {
  const state = after([
    [1, 0.5],
    [1, 0.3],
    [1, 0.3],
    [1, 0.4],
    [0.9, 0.1],
  ]);
  assert.deepEqual(state, { baseline: 1, best: 1, bestStep: 10, bestLoss: 0.3, sinceBest: 4 });
});
