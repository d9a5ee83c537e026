import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Parameters } from '../../../src/prompts/types.ts';
import { clipByNorm, globalNorm } from '../../../src/tuning/clip.ts';
import { createOptimizer, initialOptimizerState, type OptimizerName } from '../../../src/tuning/optimizers/registry.ts';
import { learningRateAt } from '../../../src/tuning/schedule.ts';
// Written once by PyTorch (version inside): 12 updates with gradients of three magnitudes, ExponentialLR every third.
import reference from '../reference/optimizers.json' with { type: 'json' };

const named = (values: number[][]): Map<string, Float32Array> =>
  new Map(values.map((list, k) => [`p${k}`, Float32Array.from(list)]));
const parametersOf = (values: number[][]): Parameters =>
  new Map(values.map((list, k) => [`p${k}`, { shape: [list.length], values: Float32Array.from(list) }]));

function assertClose(actual: ArrayLike<number>, expected: number[], what: string): void {
  for (const [i, value] of expected.entries()) {
    const error = Math.abs(actual[i]! - value);
    assert.ok(error <= 2e-6 * Math.abs(value) + 1e-8, `${what}[${i}]: ${actual[i]} instead of ${value}`);
  }
}

for (const [index, reported] of reference.cases.entries()) {
  test(`${reported.optimizer} with weight decay ${reported.weight_decay} follows PyTorch (case ${index})`, () => {
    const parameters = parametersOf(reference.initial);
    const optimizer = createOptimizer(reported.optimizer as OptimizerName, initialOptimizerState(parameters), {
      weightDecay: reported.weight_decay,
      beta1: reported.beta1,
      beta2: reported.beta2,
      epsilon: reported.epsilon,
    });
    for (const [step, gradients] of reference.gradients.entries()) {
      const rate = learningRateAt(
        step,
        { learning_rate: reported.learning_rate, schedule: 'exponential', gamma: reported.gamma, warmup_ratio: 0 },
        { totalSteps: 12, stepsPerEpoch: reported.steps_per_epoch },
      );
      assert.ok(Math.abs(rate / reported.rates[step]! - 1) < 1e-12);
      const norm = optimizer.update(parameters, named(gradients), rate);
      assert.ok(Math.abs(norm / globalNorm(named(gradients)) - 1) < 1e-12);
    }
    assert.equal(optimizer.state.step, 12);
    for (const [k, expected] of reported.final.entries()) {
      assertClose(parameters.get(`p${k}`)!.values, expected, `p${k}`);
      assertClose(optimizer.state.m.get(`p${k}`)!, reported.m[k]!, `m${k}`);
      assertClose(optimizer.state.v.get(`p${k}`)!, reported.v[k]!, `v${k}`);
    }
  });
}

for (const expected of reference.clip) {
  test(`clipping to ${expected.max_norm} follows clip_grad_norm_`, () => {
    const gradients = named(reference.gradients[0]!);
    const norm = clipByNorm(gradients, expected.max_norm);
    assert.ok(Math.abs(norm / expected.norm - 1) < 1e-6);
    for (const [k, values] of expected.clipped.entries()) assertClose(gradients.get(`p${k}`)!, values, `g${k}`);
  });
}

test('a NaN or Infinity anywhere shows in the norm', () => {
  for (const bad of [Number.NaN, Number.POSITIVE_INFINITY]) {
    const parameters = parametersOf(reference.initial);
    const gradients = named(reference.gradients[0]!);
    gradients.get('p1')![4] = bad;
    assert.ok(!Number.isFinite(globalNorm(gradients)));
    const optimizer = createOptimizer('adam', initialOptimizerState(parameters), { weightDecay: 0 });
    assert.ok(!Number.isFinite(optimizer.update(parameters, gradients, 1e-3)));
  }
});

test('a gradient that does not fit its parameter is refused', () => {
  const parameters = parametersOf(reference.initial);
  const optimizer = createOptimizer('adamw', initialOptimizerState(parameters), { weightDecay: 0 });
  assert.throws(() => optimizer.update(parameters, named([[1, 2]]), 1e-3), /"p0"/);
});
