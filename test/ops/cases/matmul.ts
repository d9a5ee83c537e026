import type { AttributeInit } from '../../../src/onnx/ir.ts';
import type { GradientCase } from '../gradient-check.ts';
import { at, uniform } from './inputs.ts';

const transposes = [0, 1].flatMap((transA) => [0, 1].map((transB) => ({ transA, transB })));

export const matmulCases: GradientCase[] = [
  ...(
    [
      [
        [2, 3],
        [3, 4],
      ],
      [
        [2, 2, 3],
        [3, 2],
      ],
      [
        [2, 2, 3],
        [2, 3, 2],
      ],
      [
        [2, 1, 2, 3],
        [3, 3, 2],
      ],
      [
        [2, 3],
        [2, 3, 2],
      ],
      [[3], [3, 2]],
      [[2, 3], [3]],
      [[3], [3]],
      [[2, 2, 3], [3]],
      [[3], [2, 3, 2]],
    ] as [number[], number[]][]
  ).map(([a, b]): GradientCase => ({ op: 'MatMul', inputs: [uniform(a), uniform(b)] })),
  ...transposes.map(
    ({ transA, transB }): GradientCase => ({
      op: 'Gemm',
      attributes: { transA, transB, alpha: { float: 0.7 }, beta: { float: 1.3 } },
      inputs: [uniform(transA ? [3, 2] : [2, 3]), uniform(transB ? [4, 3] : [3, 4]), uniform([4])],
    }),
  ),
  { op: 'Gemm', inputs: [uniform([2, 3]), uniform([3, 4])] },
  { op: 'Gemm', inputs: [uniform([2, 3]), uniform([3, 4]), uniform([2, 1])] },
  { op: 'Gemm', inputs: [uniform([2, 3]), uniform([3, 4]), uniform([])] },
  ...transposes.flatMap(({ transA, transB }): GradientCase[] => [
    {
      op: 'FusedMatMul',
      domain: 'com.microsoft',
      attributes: { transA, transB, alpha: { float: 0.7 } },
      inputs: [uniform(transA ? [3, 2] : [2, 3]), uniform(transB ? [4, 3] : [3, 4])],
      precision: 'float32',
    },
    {
      op: 'FusedMatMul',
      domain: 'com.microsoft',
      attributes: { transA, transB },
      inputs: [uniform(transA ? [2, 3, 2] : [2, 2, 3]), uniform(transB ? [2, 4, 3] : [2, 3, 4])],
      note: 'batched',
      precision: 'float32',
    },
  ]),
  {
    op: 'FusedMatMul',
    domain: 'com.microsoft',
    attributes: { transA: 0, transB: 1 },
    inputs: [uniform([2, 2, 3]), uniform([4, 3])],
    note: 'broadcast',
    precision: 'float32',
  },
  ...[
    { activation: 'Relu' },
    { activation: 'Tanh', transA: 1, transB: 1, alpha: { float: 0.7 }, beta: { float: 1.3 } },
    { activation: 'LeakyRelu', activation_alpha: { float: 0.3 } },
    { activation: 'HardSigmoid', activation_alpha: { float: 0.15 }, activation_beta: { float: 0.4 } },
    { activation: 'Selu', activation_alpha: { float: 1.2 }, activation_gamma: { float: 1.1 } },
  ].map((attributes: Record<string, AttributeInit>): GradientCase => {
    const [x, w] = [
      [0.3, -0.8, 1.1, 0.4, -0.2, 0.9],
      [0.5, -0.7, 0.2, 0.9, -0.4, 0.6],
    ];
    return {
      op: 'FusedGemm',
      domain: 'com.microsoft',
      attributes,
      inputs: [
        at(attributes.transA ? [3, 2] : [2, 3], x),
        at(attributes.transB ? [2, 3] : [3, 2], w),
        at([2], [0.9, -0.3]),
      ],
      precision: 'float32',
    };
  }),
  {
    op: 'TransposeMatMul',
    domain: 'com.microsoft',
    attributes: { transA: 1, transB: 0 },
    inputs: [uniform([3, 2]), uniform([3, 4])],
    precision: 'float32',
  },
  ...transposes.map(
    ({ transA, transB }): GradientCase => ({
      op: 'FusedMatMul',
      domain: 'com.microsoft',
      attributes: { transA, transB, transBatchA: 1, transBatchB: transB },
      inputs: [uniform(transA ? [4, 2, 3, 5] : [5, 2, 3, 4]), uniform(transB ? [2, 2, 3, 4] : [2, 3, 4, 2])],
      note: 'rows before the batch',
      precision: 'float32',
    }),
  ),
];
