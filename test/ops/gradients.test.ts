/** Every rule against finite differences of the forward op, with known shapes and with symbolic ones. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { lowerings } from '../../src/autodiff/lower/registry.ts';
import type { Feed } from '../../src/onnx/session.ts';
import { opKey } from '../../src/ops/op.ts';
import { ops } from '../../src/ops/registry.ts';
import { gradientCases } from './cases/all.ts';
import { caseName, finiteDifferences, type GradientCase, isLowered, ruleGradients } from './gradient-check.ts';

/** Of the largest element: rounding of the float32 gradient, or of float32 finite differences. */
const tolerances = { float64: 1e-5, float32: 3e-4 };

/** A rounded value has no finite differences: quantize.test.ts compares these with the chain without rounding. */
const roundingOps = new Set(['DynamicQuantizeLinear', 'QuantizeLinear', 'DequantizeLinear', 'MatMulInteger']);

test('every op with a rule or a lowering has a case', () => {
  const covered = new Set(gradientCases.map((one) => opKey(one.domain ?? '', one.op)));
  const ruled = [...ops].filter(([, op]) => typeof op.vjp === 'function').map(([key]) => key);
  const missing = [...ruled, ...lowerings.keys()].filter((key) => !covered.has(key) && !roundingOps.has(key));
  assert.deepEqual(missing, []);
});

test('every case is of an op with a rule or a lowering', () => {
  for (const one of gradientCases) {
    const { vjp } = ops.get(opKey(one.domain ?? '', one.op)) ?? {};
    assert.ok(typeof vjp === 'function' || isLowered(one), caseName(one));
  }
});

for (const one of gradientCases) {
  test(caseName(one), async () => {
    const expected = await finiteDifferences(one);
    for (const knowledge of ['static', 'symbolic'] as const) {
      const dims = expected.outputs.map((output) => output.dims);
      const found = await ruleGradients(one, knowledge, dims);
      assert.deepEqual(found.disagreements, [], `${knowledge} shapes: inference and run agree`);
      if (isLowered(one)) compareOutputs(found.outputs, expected.outputs);
      compare(one, found.gradients, expected.gradients, knowledge);
    }
  });
}

/** The primitives compute what the fused kernel computes. */
function compareOutputs(found: readonly Feed[], expected: readonly Feed[]): void {
  for (const [i, output] of expected.entries()) {
    assert.deepEqual([...found[i]!.dims], [...output.dims]);
    for (const [k, value] of output.data.entries()) {
      const error = Math.abs(Number(found[i]!.data[k]) - Number(value));
      assert.ok(
        error <= 1e-5 * Math.max(1, Math.abs(Number(value))),
        `output ${i}[${k}] ${found[i]!.data[k]}, kernel ${value}`,
      );
    }
  }
}

function compare(
  one: GradientCase,
  found: readonly (Float32Array | null)[],
  expected: readonly (Float64Array | null)[],
  knowledge: string,
): void {
  const tolerance = tolerances[one.precision ?? 'float64'];
  for (const [i, gradient] of expected.entries()) {
    if (gradient === null) continue;
    assert.equal(found[i]!.length, gradient.length, `${knowledge}: input ${i} has a gradient of its own shape`);
    const size = Math.max(1, ...gradient.map(Math.abs));
    for (const [k, value] of gradient.entries()) {
      const error = Math.abs(found[i]![k]! - value);
      assert.ok(error <= tolerance * size, `${knowledge}: input ${i}[${k}] is ${found[i]![k]}, ${value} expected`);
    }
  }
}
