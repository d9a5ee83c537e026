import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { compileKernel } from '../../../scripts/build-kernel.ts';
import { type OuterProducts, squaredNorm, wholeGradient } from '../../../src/prompts/gradients.ts';
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
      optimizer.update(parameters, named(gradients), rate);
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
    const gradients = named(reference.gradients[0]!);
    gradients.get('p1')![4] = bad;
    assert.ok(!Number.isFinite(globalNorm(gradients)));
    assert.ok(!Number.isFinite(clipByNorm(gradients, 1)));
  }
});

test('a gradient that does not fit its parameter is refused', () => {
  const parameters = parametersOf(reference.initial);
  const optimizer = createOptimizer('adamw', initialOptimizerState(parameters), { weightDecay: 0 });
  assert.throws(() => optimizer.update(parameters, named([[1, 2]]), 1e-3), /"p0"/);
});

/** leftᵀ·right without cancellation: Adam divides a gradient by its own size, and what cancels is rounding alone. */
function outerProducts(terms: number, rows: number, columns: number): OuterProducts {
  const values = (count: number, phase: number) =>
    Float32Array.from({ length: count }, (_, i) => 1 + 0.5 * Math.sin(i * phase));
  return { terms, left: values(terms * rows, 1.3), right: values(terms * columns, 0.7) };
}

test('a gradient of outer products updates as the whole gradient does', () => {
  for (const [terms, rows, columns] of [
    [1, 5, 3],
    [9, 7, 37],
    [24, 3, 64],
    [2, 1, 16],
    // More rows than the kernel takes at once, and an odd number of them.
    [2, 101, 1001],
  ] as const) {
    const gradient = outerProducts(terms, rows, columns);
    const whole = wholeGradient(gradient);
    assert.ok(Math.abs(squaredNorm(gradient) / squaredNorm(whole) - 1) < 1e-6);
    const [one, other] = [gradient, whole].map((given) => {
      const values = Float32Array.from({ length: rows * columns }, (_, i) => Math.cos(i));
      const parameters: Parameters = new Map([['w', { shape: [rows, columns], values }]]);
      const optimizer = createOptimizer('adam', initialOptimizerState(parameters), { weightDecay: 0.1 });
      for (let step = 0; step < 3; step++) optimizer.update(parameters, new Map([['w', given]]), 1e-2);
      return { p: parameters.get('w')!.values, v: optimizer.state.v.get('w')! };
    });
    assertClose(one!.p, [...other!.p], 'p');
    assertClose(one!.v, [...other!.v], 'v');
  }
});

test('gradients longer than the kernel takes at once are updated throughout', () => {
  const count = 50_001;
  const parameters: Parameters = new Map([['w', { shape: [count], values: new Float32Array(count) }]]);
  const optimizer = createOptimizer('adam', initialOptimizerState(parameters), { weightDecay: 0 });
  const gradient = Float32Array.from({ length: count }, (_, i) => (i % 2 === 0 ? 1 : -1));
  optimizer.update(parameters, new Map([['w', gradient]]), 0.5);
  const { values } = parameters.get('w')!;
  for (const [i, value] of values.entries())
    assert.ok(Math.abs(value + 0.5 * gradient[i]!) < 1e-6, `w[${i}]: ${value}`);
});

test('the kernel is what kernel.wat compiles to', async () => {
  const file = new URL('../../../src/tuning/optimizers/kernel.generated.ts', import.meta.url);
  assert.equal(await compileKernel(), readFileSync(file, 'utf8'));
});
