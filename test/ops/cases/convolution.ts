import type { AttributeInit } from '../../../src/onnx/ir.ts';
import type { CaseInput, GradientCase } from '../gradient-check.ts';
import { uniform } from './inputs.ts';

const conv = (x: number[], w: number[], attributes: Record<string, AttributeInit> = {}, bias = false): GradientCase => {
  const inputs: CaseInput[] = [uniform(x), uniform(w), ...(bias ? [uniform([w[0]!])] : [])];
  return { op: 'Conv', attributes, inputs, precision: 'float32' };
};

export const convolutionCases: GradientCase[] = [
  conv([2, 3, 5], [4, 3, 3]),
  conv([2, 4, 5], [4, 2, 3], { group: 2, pads: [1, 1] }, true),
  conv([2, 4, 6], [4, 1, 3], { group: 4, pads: [2, 0] }),
  conv([1, 2, 7], [2, 2, 2], { dilations: [2], pads: [1, 2] }),
  conv([2, 4, 5], [2, 4, 1], { kernel_shape: [1] }, true),
  { ...conv([2, 4, 5], [4, 2, 3], { pads: [1, 1] }), op: 'ConvTranspose' },
  { ...conv([2, 4, 5], [4, 2, 3], { group: 2, dilations: [2] }), op: 'ConvTranspose' },
  conv([1, 2, 4, 3], [2, 1, 2, 2], { group: 2, pads: [0, 1, 1, 0] }),
  conv([2, 3, 8], [4, 3, 3], { strides: [2], pads: [1, 2] }, true),
  conv([1, 4, 9], [2, 2, 2], { strides: [3], group: 2, dilations: [2] }),
  conv([1, 2, 7], [2, 2, 4], { strides: [4], auto_pad: 'VALID' }),
  { ...conv([2, 3, 4], [3, 2, 3], { strides: [2], pads: [1, 0], output_padding: [1] }), op: 'ConvTranspose' },
];
