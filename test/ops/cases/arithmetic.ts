import type { GradientCase } from '../gradient-check.ts';
import { at, awayFrom, bools, distinct, floats, nonZero, uniform } from './inputs.ts';

/** Pairs of shapes that broadcast: equal, missing axes, axes of 1 on either side, scalars. */
const pairs: [number[], number[]][] = [
  [
    [2, 3],
    [2, 3],
  ],
  [[2, 3], [3]],
  [
    [2, 1, 3],
    [4, 1],
  ],
  [[], [2, 2]],
  [[2, 3], [1]],
];

function broadcast(op: string, second: (shape: number[]) => ReturnType<typeof uniform> = uniform): GradientCase[] {
  return pairs.map(([a, b]) => ({ op, inputs: [uniform(a), second(b)] }));
}

export const arithmeticCases: GradientCase[] = [
  ...broadcast('Add'),
  ...broadcast('Sub'),
  ...broadcast('Mul'),
  ...broadcast('Div', nonZero),
  ...[2, 3, 0.5, -1, 1.7, 1].map(
    (exponent): GradientCase => ({ op: 'Pow', inputs: [uniform([2, 3], 0.3, 2), floats(exponent)] }),
  ),
  { op: 'Pow', inputs: [nonZero([2, 3]), floats(3)], note: 'negative base' },
  { op: 'Pow', inputs: [uniform([2, 3], 0.3, 2), uniform([3], -2, 2)], note: 'variable exponent' },
  { op: 'Pow', inputs: [uniform([2, 3], 0.3, 2), at([3], [0, 2, -1])], note: 'an exponent of 0' },
  { op: 'CastLike', inputs: [uniform([2, 3]), floats([0])] },
  { op: 'Sum', inputs: [uniform([2, 3]), uniform([3]), uniform([2, 1])] },
  { op: 'Mean', inputs: [uniform([2, 3]), uniform([3]), uniform([2, 1])], precision: 'float32' },
  { op: 'Sum', inputs: [uniform([2, 3])] },
  { op: 'Max', inputs: [distinct([3, 4]), floats(0.1)] },
  { op: 'Max', inputs: [distinct([3, 4]), floats([0.1, -0.5, 0.4, 1], [4]), floats(-0.7)] },
  { op: 'Max', inputs: [distinct([4])] },
  { op: 'Min', inputs: [distinct([3, 4]), floats(0.1)] },
  { op: 'Min', inputs: [distinct([2, 3]), floats([0.1, -0.4], [2, 1])] },
  { op: 'Clip', inputs: [awayFrom([3, 4], [-1, 1]), floats(-1), floats(1)] },
  { op: 'Clip', inputs: [awayFrom([3, 4], [-0.5]), floats(-0.5)] },
  { op: 'Clip', inputs: [awayFrom([3, 4], [0.5]), null, floats(0.5)] },
  { op: 'Clip', inputs: [uniform([3])] },
  { op: 'Clip', inputs: [awayFrom([3, 4], [-0.6, 0.7]), at([], [-0.6]), at([], [0.7])], note: 'variable bounds' },
  { op: 'Clip', inputs: [awayFrom([3, 4], [-0.6, 0.7]), at([], [0.7]), at([], [-0.6])], note: 'bounds that cross' },
  { op: 'Mod', attributes: { fmod: 1 }, inputs: [at([2, 2], [2.6, -2.6, 0.4, 5.1]), at([2], [0.9, -1.1])] },
  { op: 'PRelu', inputs: [nonZero([2, 3]), uniform([3])], precision: 'float32' },
  { op: 'PRelu', inputs: [nonZero([2, 3, 2]), uniform([3, 1])], precision: 'float32' },
  { op: 'Where', inputs: [bools([2, 3], [1, 0, 1, 0, 0, 1]), uniform([2, 3]), uniform([2, 3])] },
  { op: 'Where', inputs: [bools([2, 1], [1, 0]), uniform([3]), uniform([2, 3])] },
  { op: 'Where', inputs: [bools([2, 2, 1], [1, 0, 0, 1]), uniform([1, 3]), uniform([])] },
];
