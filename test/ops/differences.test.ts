/** The oracle itself: what finite differences say at smooth places, at kinks and at jumps, and what counts as wrong. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { at, uniform } from './cases/inputs.ts';
import { gradientError, tolerances } from './compare.ts';
import { finiteDifferences } from './differences.ts';
import { type GradientCase, knowledgeOf, subjectOf } from './gradient-check.ts';
import { ruleGradients } from './rule-gradients.ts';
import { seedValues } from './subject.ts';

const [seed] = seedValues(1, 0);
const single = (op: string, x: number): GradientCase => ({ op, inputs: [at([1], [x])] });

for (const precision of ['float64', 'float32'] as const) {
  test(`${precision}: the slope of a smooth function, to within the tolerance`, async () => {
    const { gradients } = await finiteDifferences(subjectOf(single('Tanh', 0.4)), { precision });
    const [{ value, between, kink } = assert.fail()] = gradients.get('x0')!;
    assert.ok(Math.abs(value - seed! * (1 - Math.tanh(0.4) ** 2)) < tolerances[precision]);
    assert.deepEqual([between, kink], [null, false]);
  });

  test(`${precision}: at a kink and beside it, the slopes of either side`, async () => {
    for (const [x, low, high] of [
      [0, 0, seed!],
      [0.001, 0, seed!],
      [-0.0005, 0, seed!],
    ] as const) {
      const { gradients } = await finiteDifferences(subjectOf(single('Relu', x)), { precision });
      const [{ between, kink } = assert.fail()] = gradients.get('x0')!;
      assert.ok(between !== null, `${x}`);
      assert.ok(kink || x !== 0);
      assert.ok(between[0] >= low - 1e-4 && between[1] <= high + 1e-4, `${x}: ${between}`);
    }
  });
}

test('a gradient that is wrong, missing or no number is an error', async () => {
  const one: GradientCase = { op: 'Mul', inputs: [uniform([3]), uniform([3])] };
  const subject = subjectOf(one);
  const expected = await finiteDifferences(subject);
  const found = await ruleGradients(subject, knowledgeOf(one, 'static'), expected.outputs);
  assert.ok(gradientError(found, expected).error < tolerances.float64);
  const right = found.gradients.get('x1')!;
  const altered = (x1: Float32Array | null) => {
    const gradients = new Map(found.gradients);
    if (x1 === null) gradients.delete('x1');
    else gradients.set('x1', x1);
    return gradientError({ ...found, gradients }, expected);
  };
  assert.ok(
    altered(Float32Array.from(right as Float32Array, (value) => Number(value) * 1.01)).error > tolerances.float64,
  );
  assert.ok(altered(null).error > tolerances.float64);
  const poisoned = altered(Float32Array.of(Number(right[0]), Number.NaN, Number(right[2])));
  assert.ok(Number.isNaN(poisoned.error));
  assert.match(poisoned.what, /x1\[1\] is NaN/);
});
