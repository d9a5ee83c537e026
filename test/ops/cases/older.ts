/** Forms of before a revision, as files of those opsets have them. */
import type { AttributeInit } from '../../../src/onnx/ir.ts';
import type { CaseInput, GradientCase } from '../gradient-check.ts';
import { distinct, floats, fused, ints, nonZero, uniform } from './inputs.ts';

const older = (
  opset: number,
  op: string,
  inputs: (CaseInput | null)[],
  attributes: Record<string, AttributeInit> = {},
  more: Partial<GradientCase> = {},
): GradientCase => ({ op, opset, inputs, attributes, ...more });

const s = [2, 3, 2];

/** Axes were an attribute of every reduction, of ReduceSum until 13. */
const reductions = (
  [
    ['ReduceSum', 12, nonZero],
    ['ReduceMean', 17, nonZero],
    ['ReduceMax', 17, distinct],
    ['ReduceMin', 17, distinct],
    ['ReduceSumSquare', 17, nonZero],
    ['ReduceL1', 17, nonZero],
    ['ReduceL2', 17, nonZero],
    ['ReduceLogSum', 17, (shape: number[]) => uniform(shape, 0.3, 2)],
    ['ReduceLogSumExp', 17, nonZero],
    ['ReduceProd', 17, nonZero],
  ] as const
).flatMap(([op, newest, input]): GradientCase[] => [
  older(11, op, [input(s)], { axes: [1], keepdims: 0 }, { precision: 'float32' }),
  older(newest, op, [input(s)], { axes: [-1, 0] }, { precision: 'float32' }),
  older(newest, op, [input(s)], { keepdims: 0 }, { note: 'all axes', precision: 'float32' }),
]);

export const olderCases: readonly GradientCase[] = [
  ...reductions,
  older(11, 'Squeeze', [uniform([2, 1, 3, 1])], { axes: [1, -1] }),
  older(12, 'Squeeze', [uniform([2, 3])], {}),
  older(11, 'Unsqueeze', [uniform([2, 3])], { axes: [0, -1] }),
  older(11, 'Split', [uniform([2, 5])], { axis: 1, split: [2, 3] }, { outputs: 2 }),
  older(12, 'Split', [uniform([2, 6])], { axis: -1 }, { outputs: 3, silent: [1] }),
  older(13, 'Split', [uniform([4, 2]), ints([1, 3])], {}, { outputs: 2 }),
  older(17, 'Split', [uniform([4, 2])], {}, { outputs: 2 }),
  older(11, 'Softmax', [uniform([2, 3, 2])], {}),
  older(12, 'Softmax', [uniform([2, 3, 2])], { axis: -2 }),
  older(12, 'Softmax', [uniform([2, 4])], { axis: -1 }),
  older(11, 'LogSoftmax', [uniform([2, 3, 2])], { axis: 2 }),
  older(12, 'LogSoftmax', [uniform([2, 3, 2])], { axis: 0 }),
  older(11, 'Pad', [uniform([2, 3]), ints([1, 0, 0, 2]), floats(0.5)], { mode: 'constant' }),
  older(11, 'Clip', [nonZero([3]), floats(-2.5), floats(2.5)], {}, { precision: 'float32' }),
  older(11, 'Dropout', [uniform([2, 3])], { ratio: { float: 0.4 } }),
  older(12, 'Dropout', [uniform([2, 3]), floats(0.4)]),
  older(11, 'Gemm', [uniform([2, 3]), uniform([3, 4])], { alpha: { float: 0.5 } }),
  older(11, 'Pow', [uniform([2, 3], 0.3, 2), floats(2)]),
  older(11, 'TopK', [distinct([2, 4]), ints([2])], {}, { outputs: 2 }),
  older(11, 'ScatterND', [uniform([4, 2]), ints([2, 0], [2, 1]), uniform([2, 2])]),
  older(11, 'ScatterElements', [uniform([3, 2]), ints([2, 0], [1, 2]), uniform([1, 2])]),
  older(11, 'GatherND', [uniform([2, 3, 2]), ints([0, 1, 1, 2, 0, 1], [3, 2])]),
  older(11, 'CumSum', [uniform([2, 3]), ints(1)]),
  older(11, 'LayerNormalization', [uniform([2, 5]), uniform([5]), uniform([5])], { axis: -1 }, { note: 'as optimizers write it', precision: 'float32' }),
  { ...fused('BiasGelu', [uniform([2, 3]), uniform([3])]), opset: 11 },
]; // biome-ignore format: a table
