import assert from 'node:assert/strict';
import { test } from 'node:test';
import { learningRateAt } from '../../src/tuning/schedule.ts';

const shape = { totalSteps: 10, stepsPerEpoch: 4 };
const rates = (options: Partial<Parameters<typeof learningRateAt>[1]>): number[] =>
  Array.from({ length: 10 }, (_, step) =>
    learningRateAt(step, { learning_rate: 1, schedule: 'constant', gamma: 1, warmup_ratio: 0, ...options }, shape),
  );

const assertRates = (actual: number[], expected: number[]): void =>
  actual.forEach((rate, step) => {
    assert.ok(Math.abs(rate - expected[step]!) < 1e-12, `step ${step}: ${rate} instead of ${expected[step]}`);
  });

test('constant stays', () => assertRates(rates({}), Array(10).fill(1)));

test('exponential falls once an epoch', () =>
  assertRates(rates({ schedule: 'exponential', gamma: 0.5 }), [1, 1, 1, 1, 0.5, 0.5, 0.5, 0.5, 0.25, 0.25]));

test('linear falls to one step before zero', () =>
  assertRates(rates({ schedule: 'linear' }), [1, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1]));

test('warm-up rises to the full rate, then the schedule follows', () => {
  assertRates(rates({ schedule: 'linear', warmup_ratio: 0.2 }), [
    0.5,
    1,
    1,
    7 / 8,
    6 / 8,
    5 / 8,
    4 / 8,
    3 / 8,
    2 / 8,
    1 / 8,
  ]);
  assertRates(
    rates({ schedule: 'exponential', gamma: 0.5, warmup_ratio: 0.2 }),
    [0.5, 1, 1, 1, 0.5, 0.5, 0.5, 0.5, 0.25, 0.25],
  );
  assertRates(rates({ warmup_ratio: 0.31 }), [0.25, 0.5, 0.75, 1, 1, 1, 1, 1, 1, 1]);
});
