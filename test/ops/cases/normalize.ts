import type { GradientCase } from '../gradient-check.ts';
import { active, distinct, floats, uniform, weight } from './inputs.ts';

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
  { op: 'InstanceNormalization', inputs: [active([2, 3, 4], [0, 2]), weight([3]), weight([3])], precision: 'float32' },
  {
    op: 'InstanceNormalization',
    attributes: { epsilon: { float: 0.1 } },
    inputs: [active([2, 2, 3, 2], [0, 2, 3]), weight([2]), weight([2])],
    precision: 'float32',
  },
  {
    op: 'BatchNormalization',
    attributes: { epsilon: { float: 0.1 }, momentum: { float: 0.9 }, training_mode: 0 },
    inputs: [active([2, 3, 4], [0, 2]), weight([3]), weight([3]), weight([3]), floats([0.5, 1, 2])],
    precision: 'float32',
  },
  { op: 'MeanVarianceNormalization', inputs: [uniform([2, 2, 3, 2])], precision: 'float32' },
  { op: 'MeanVarianceNormalization', attributes: { axes: [1] }, inputs: [uniform([2, 4])], precision: 'float32' },
  { op: 'GlobalAveragePool', inputs: [uniform([2, 3, 4])], precision: 'float32' },
  { op: 'GlobalMaxPool', inputs: [distinct([2, 3, 2, 2])], precision: 'float32' },
];
