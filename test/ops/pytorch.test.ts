/** Rules against recorded gradients of PyTorch (test/fixtures/make_op_gradients.py): conventions at kinks and ties. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import type { AttributeInit } from '../../src/onnx/ir.ts';
import { type CaseInput, caseName, type GradientCase, isLowered, knowledgeOf, subjectOf } from './gradient-check.ts';
import { ruleGradients } from './rule-gradients.ts';

interface Recorded {
  op: string;
  note: string;
  attributes: Record<string, AttributeInit>;
  inputs: RecordedTensor[];
  constants: RecordedTensor[];
  seed: RecordedTensor;
  /** Null for integers. */
  gradients: (RecordedTensor | null)[];
}

interface RecordedTensor {
  dtype: 'float32' | 'int64';
  shape: number[];
  values: number[];
}

const path = new URL('../fixtures/op-gradients.json', import.meta.url);

for (const one of JSON.parse(readFileSync(path, 'utf8')) as Recorded[]) {
  const inputs = [
    ...one.inputs.map((input): CaseInput => ({ ...input, kind: input.dtype === 'int64' ? 'constant' : 'variable' })),
    ...one.constants.map((input): CaseInput => ({ ...input, kind: 'constant' })),
  ];
  const gradientCase: GradientCase = { ...one, inputs };
  test(`${caseName(gradientCase)}: as PyTorch`, async () => {
    const { shape, values: seed } = one.seed;
    const outputs = { y0: { dtype: 'float32' as const, dims: shape, data: Float32Array.from(seed) } };
    const knowledge = knowledgeOf(gradientCase, isLowered(gradientCase) ? 'static' : 'symbolic');
    const { gradients } = await ruleGradients(subjectOf(gradientCase), knowledge, outputs, { y0: seed });
    for (const [i, recorded] of one.gradients.entries()) {
      for (const [k, value] of recorded?.values.entries() ?? []) {
        const found = Number(gradients.get(`x${i}`)![k]);
        assert.ok(Math.abs(found - value) <= 2e-6 * Math.max(1, Math.abs(value)), `[${k}] ${found}, PyTorch ${value}`);
      }
    }
  });
}
