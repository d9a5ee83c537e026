import type { GradientCase } from '../gradient-check.ts';
import { bools, fed, ints, uniform } from './inputs.ts';

export const rearrangeCases: GradientCase[] = [
  {
    op: 'Compress',
    attributes: { axis: 1 },
    inputs: [uniform([2, 4]), bools([4], [1, 0, 1, 1])],
    precision: 'float32',
  },
  { op: 'Compress', inputs: [uniform([2, 3]), bools([5], [0, 1, 1, 0, 1])], precision: 'float32' },
  { op: 'ReverseSequence', inputs: [uniform([4, 2]), fed(ints([3, 2]))] },
  {
    op: 'ReverseSequence',
    attributes: { batch_axis: 0, time_axis: 1 },
    inputs: [uniform([2, 4, 2]), fed(ints([4, 1]))],
  },
];
