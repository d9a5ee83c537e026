import type { GradientCase } from '../gradient-check.ts';
import { at, fed, floats, ints } from './inputs.ts';

export const generateCases: GradientCase[] = [
  { op: 'OneHot', inputs: [ints([0, 3, -1]), ints(4), at([2], [0.2, 1.5])], precision: 'float32' },
  {
    op: 'OneHot',
    attributes: { axis: 0 },
    inputs: [fed(ints([1, 5, 0, 2], [2, 2])), ints(3), at([2], [-1, 2])],
    precision: 'float32',
  },
  { op: 'Range', inputs: [at([], [0.25]), floats(2), at([], [0.4])], precision: 'float32' },
  { op: 'Range', inputs: [at([], [1.5]), floats(-1), at([], [-0.7])], precision: 'float32' },
];
