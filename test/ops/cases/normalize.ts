import type { GradientCase } from '../gradient-check.ts';
import { uniform } from './inputs.ts';

export const normalizeCases: GradientCase[] = [
  { op: 'Softmax', inputs: [uniform([2, 4])] },
  { op: 'Softmax', attributes: { axis: 1 }, inputs: [uniform([2, 3, 2])] },
  { op: 'LogSoftmax', inputs: [uniform([2, 4])] },
  { op: 'LogSoftmax', attributes: { axis: -2 }, inputs: [uniform([2, 3, 2])] },
  { op: 'LayerNormalization', inputs: [uniform([2, 2, 5]), uniform([5]), uniform([5])] },
  { op: 'LayerNormalization', attributes: { epsilon: { float: 0.1 } }, inputs: [uniform([3, 4]), uniform([4])] },
  { op: 'LayerNormalization', attributes: { axis: 1 }, inputs: [uniform([2, 2, 3]), uniform([2, 3]), uniform([2, 3])] },
  { op: 'LayerNormalization', inputs: [uniform([2, 5]), uniform([5]), uniform([5])], outputs: 3, precision: 'float32' },
  {
    op: 'LayerNormalization',
    attributes: { axis: 1 },
    inputs: [uniform([2, 2, 3]), uniform([2, 3])],
    outputs: 3,
    precision: 'float32',
  },
];
