import type { GradientCase } from '../gradient-check.ts';
import { at, distinct, fed, ints, nonZero, uniform } from './inputs.ts';

const shape = [2, 3, 2];

function reductions(op: string, input: (shape: number[]) => ReturnType<typeof nonZero>): GradientCase[] {
  return [
    { op, attributes: { keepdims: 1 }, inputs: [input(shape), ints([1])] },
    { op, attributes: { keepdims: 0 }, inputs: [input(shape), ints([-1, 0])] },
    { op, attributes: { keepdims: 0 }, inputs: [input(shape)], note: 'all axes' },
    { op, attributes: { keepdims: 1, noop_with_empty_axes: 0 }, inputs: [input([3, 2])] },
    { op, attributes: { keepdims: 1 }, inputs: [input(shape), fed(ints([2]))], note: 'axes at run time' },
  ];
}

export const reduceCases: GradientCase[] = [
  ...reductions('ReduceSum', nonZero),
  { op: 'ReduceSum', attributes: { noop_with_empty_axes: 1 }, inputs: [nonZero(shape)], note: 'no-op' },
  ...reductions('ReduceMean', nonZero),
  ...reductions('ReduceMax', distinct),
  ...reductions('ReduceMin', distinct),
  ...reductions('ReduceSumSquare', nonZero),
  ...reductions('ReduceL2', nonZero),
  ...reductions('ReduceL1', nonZero),
  ...reductions('ReduceLogSum', (shape) => uniform(shape, 0.3, 2)),
  ...reductions('ReduceLogSumExp', nonZero),
  ...reductions('ReduceProd', nonZero),
  {
    op: 'ReduceProd',
    attributes: { keepdims: 0 },
    inputs: [at([2, 3], [0, 2, -1, 0, 0, 3]), ints([1])],
    note: 'zeros',
  },
];
