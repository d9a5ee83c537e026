/** Every rule against finite differences of the forward op, with known shapes and with symbolic ones. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { lowerings } from '../../src/autodiff/lower/registry.ts';
import { opKey } from '../../src/ops/op.ts';
import { ops } from '../../src/ops/registry.ts';
import { gradientCases } from './cases/all.ts';
import { gradientError, outputError, outputTolerance, tolerances } from './compare.ts';
import { finiteDifferences } from './differences.ts';
import { caseName, isLowered, knowledgeOf, subjectOf } from './gradient-check.ts';
import { ruleGradients } from './rule-gradients.ts';

/** A rounded value has no finite differences: quantize.test.ts compares these with the chain without rounding. */
const roundingOps = new Set([
  'DynamicQuantizeLinear',
  'MatMulInteger',
  ...['', 'com.microsoft.'].flatMap((domain) => [`${domain}QuantizeLinear`, `${domain}DequantizeLinear`]),
]);

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
    const subject = subjectOf(one);
    const expected = await finiteDifferences(subject, {
      precision: one.precision ?? 'float64',
      ...(one.rounds ? { most: 1 } : {}),
    });
    const kinks = one.rounds ? [] : [...expected.gradients.values()].flat().filter(({ kink }) => kink);
    assert.deepEqual(kinks, [], 'the inputs lie where the op has a gradient');
    for (const shapes of ['static', 'symbolic'] as const) {
      const found = await ruleGradients(subject, knowledgeOf(one, shapes), expected.outputs);
      assert.deepEqual(found.disagreements, [], `${shapes} shapes: inference and run agree`);
      const output = outputError(found.outputs, expected.outputs);
      assert.ok(output.error <= outputTolerance, `${shapes} shapes: ${output.what}`);
      for (const [name, list] of expected.gradients)
        assert.equal(
          found.gradients.get(name)?.length,
          one.rounds ? subject.feeds[name]!.data.length : list.length,
          `${name} has a gradient of its own shape`,
        );
      if (one.rounds) continue;
      const { error, what } = gradientError(found, expected);
      assert.ok(error <= tolerances[expected.precision], `${shapes} shapes: ${what}`);
    }
  });
}
