import type { AttributeInit } from '../../../src/onnx/ir.ts';
import type { CaseInput, GradientCase } from '../gradient-check.ts';
import { uniform } from './inputs.ts';

const conv = (x: number[], w: number[], attributes: Record<string, AttributeInit> = {}, bias = false): GradientCase => {
  const inputs: CaseInput[] = [uniform(x), uniform(w), ...(bias ? [uniform([w[0]!])] : [])];
  return { op: 'Conv', attributes, inputs, precision: 'float32' };
};

/** A case whose weights have known sizes, and whose input has those that are not `dynamic`. */
function sized(one: GradientCase, dynamic: number[]): GradientCase {
  const inputs = one.inputs.map((input, i) => input && { ...input, dynamic: i === 0 ? dynamic : [] });
  return { ...one, inputs };
}

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
  sized(conv([2, 3, 6], [4, 3, 4], { auto_pad: 'SAME_UPPER' }, true), [0, 2]),
  sized(conv([2, 3, 6], [2, 3, 4], { auto_pad: 'SAME_LOWER' }), [0, 2]),
  sized(conv([2, 3, 7], [2, 3, 4], { auto_pad: 'SAME_UPPER', strides: [2] }), [0]),
  sized({ ...conv([2, 3, 4], [3, 2, 4], { strides: [2], auto_pad: 'SAME_UPPER' }), op: 'ConvTranspose' }, [0, 2]),
  sized({ ...conv([2, 3, 4], [3, 2, 4], { strides: [3], auto_pad: 'SAME_LOWER' }), op: 'ConvTranspose' }, [0, 2]),
  sized({ ...conv([2, 3, 4], [3, 2, 4], { strides: [2], output_shape: [9] }), op: 'ConvTranspose' }, [0]),
];
