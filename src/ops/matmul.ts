/** Matrix products. Gradients use com.microsoft.FusedMatMul, which transposes without a second copy of a weight. */
import { type Dim, unknownDim } from '../onnx/dim.ts';
import { floatAttribute, intAttribute, type Node } from '../onnx/ir.ts';
import { broadcastShapes, type TensorType, typeOf } from '../onnx/types.ts';
import type { Infer, Op, Vjp, VjpContext } from './op.ts';
import { castLike, required } from './shared.ts';

/** Shape of a product whose operands may be transposed; element type of the left one. */
export function productShape(
  node: Node,
  inputs: (TensorType | null)[],
  transA: boolean,
  transB: boolean,
): TensorType[] {
  const a = required(node, inputs, 0);
  const b = required(node, inputs, 1);
  if (a.shape === null || b.shape === null) return [typeOf(a.dtype, null)];
  const left = a.shape.length === 1 ? [1 as Dim, ...a.shape] : a.shape;
  const right = b.shape.length === 1 ? [...b.shape, 1 as Dim] : b.shape;
  const batch = broadcastShapes(left.slice(0, -2), right.slice(0, -2), unknownDim)!;
  const rows = a.shape.length === 1 ? [] : [left.at(transA ? -1 : -2)!];
  const columns = b.shape.length === 1 ? [] : [right.at(transB ? -2 : -1)!];
  return [typeOf(a.dtype, [...batch, ...rows, ...columns])];
}

const matmulInfer: Infer = (node, inputs) => productShape(node, inputs, false, false);
const fusedInfer: Infer = (node, inputs) => {
  const operands = [0, 1].map((i) => {
    const type = required(node, inputs, i);
    return type.shape !== null && rowsLead(node, i) ? typeOf(type.dtype, rowsMoved(type.shape)) : type;
  });
  return productShape(node, operands, intAttribute(node, 'transA', 0) === 1, intAttribute(node, 'transB', 0) === 1);
};

/** Whether a node is a product whose rows are those of its left operand, behind the batches of both. */
export function readsRows(node: Node): boolean {
  const turned = ['transA', 'transBatchA', 'transBatchB'].some((name) => intAttribute(node, name, 0) === 1);
  return (node.op === 'MatMul' || node.op === 'FusedMatMul') && !turned;
}

/** Whether the axis of the rows of operand i, or that of its columns where it is transposed, stands before its batch. */
function rowsLead(node: Node, i: number): boolean {
  return intAttribute(node, i === 0 ? 'transBatchA' : 'transBatchB', 0) === 1;
}

/** A list by axis with the leading one moved to the place before the last. */
function rowsMoved<T>(axes: readonly T[]): T[] {
  return [...axes.slice(1, -1), axes[0]!, axes.at(-1)!];
}

/** alpha · op(a) · op(b) on the last two axes, batches broadcast. */
export function fusedMatMul(
  c: VjpContext,
  a: string,
  b: string,
  options: { transA?: boolean; transB?: boolean; alpha?: number },
): string {
  return c.builder.op(
    'FusedMatMul',
    [a, b],
    {
      transA: options.transA ? 1 : 0,
      transB: options.transB ? 1 : 0,
      alpha: { float: options.alpha ?? 1 },
    },
    { domain: 'com.microsoft' },
  );
}

/** dA = dY·Bᵀ, dB = Aᵀ·dY; a 2-D right operand under a batch is treated as one flat product. */
const matmulVjp: Vjp = (c) => {
  const { builder } = c;
  const rankA = builder.shape(c.input(0)).length;
  const rankB = builder.shape(c.input(1)).length;
  if (rankA === 1 || rankB === 1) return vectorVjp(c, rankA, rankB);
  return [productGradientA(c, c.input(1)), productGradientB(c, c.input(0), c.gradient(0), rankA, rankB)];
};

function productGradientA(c: VjpContext, b: string): string {
  return fusedMatMul(c, c.gradient(0), b, { transB: true });
}

function productGradientB(c: VjpContext, a: string, dy: string, rankA: number, rankB: number): string {
  if (rankB > 2 || rankA === 2) return fusedMatMul(c, a, dy, { transA: true });
  const [inner, outer] = [c.builder.shape(c.input(1))[0]!, c.builder.shape(c.input(1))[1]!];
  return fusedMatMul(c, flatten(c, a, inner), flatten(c, dy, outer), { transA: true });
}

/** [..., width] as [rows, width]. */
function flatten(c: VjpContext, value: string, width: Dim): string {
  const { builder } = c;
  if (typeof width === 'number') return builder.op('Reshape', [value, builder.constant('int64', [-1, width])]);
  const last = builder.op('Shape', [value], { start: -1 });
  return builder.op('Reshape', [value, builder.op('Concat', [builder.constant('int64', [-1]), last], { axis: 0 })]);
}

/** Products with a vector: as matrices with one row or one column. */
function vectorVjp(c: VjpContext, rankA: number, rankB: number): (string | null)[] {
  const { builder } = c;
  const first = builder.constant('int64', [-2]);
  const last = builder.constant('int64', [-1]);
  const a = rankA === 1 ? builder.op('Unsqueeze', [c.input(0), builder.constant('int64', [0])]) : c.input(0);
  const b = rankB === 1 ? builder.op('Unsqueeze', [c.input(1), builder.constant('int64', [1])]) : c.input(1);
  let dy = c.gradient(0);
  if (rankB === 1) dy = builder.op('Unsqueeze', [dy, last]);
  if (rankA === 1) dy = builder.op('Unsqueeze', [dy, first]);
  const da = fusedMatMul(c, dy, b, { transB: true });
  const db = fusedMatMul(c, a, dy, { transA: true });
  return [rankA === 1 ? builder.op('Squeeze', [da, first]) : da, rankB === 1 ? builder.op('Squeeze', [db, last]) : db];
}

/** Y = α·op(A)·op(B) + β·C. */
const gemmVjp: Vjp = (c) => {
  const transA = intAttribute(c.node, 'transA', 0) === 1;
  const transB = intAttribute(c.node, 'transB', 0) === 1;
  const beta = floatAttribute(c.node, 'beta', 1);
  const dc = beta === 1 ? c.gradient(0) : c.builder.op('Mul', [c.gradient(0), betaScalar(c, beta)]);
  return [...transposedProductVjp(c, transA, transB, floatAttribute(c.node, 'alpha', 1)), dc].slice(
    0,
    c.node.inputs.length,
  );
};

function betaScalar(c: VjpContext, beta: number): string {
  return castLike(c.builder, c.builder.constant('float32', beta), c.gradient(0));
}

function transposedProductVjp(
  c: VjpContext,
  transA: boolean,
  transB: boolean,
  alpha: number,
  [a, b]: [string, string] = [c.input(0), c.input(1)],
): [string, string] {
  const dy = c.gradient(0);
  return [
    transA
      ? fusedMatMul(c, b, dy, { transA: transB, transB: true, alpha })
      : fusedMatMul(c, dy, b, { transB: !transB, alpha }),
    transB
      ? fusedMatMul(c, dy, a, { transA: true, transB: transA, alpha })
      : fusedMatMul(c, a, dy, { transA: !transA, alpha }),
  ];
}

const fusedVjp: Vjp = (c) => {
  const transA = intAttribute(c.node, 'transA', 0) === 1;
  const transB = intAttribute(c.node, 'transB', 0) === 1;
  const alpha = floatAttribute(c.node, 'alpha', 1);
  const operands: [string, string] = [batchFirst(c, 0), batchFirst(c, 1)];
  return transposedProductVjp(c, transA, transB, alpha, operands).map((gradient, i) => rowsFirst(c, i, gradient));
};

function axesOf(c: VjpContext, i: number): number[] {
  return c.builder.shape(c.input(i)).map((_, axis) => axis);
}

function batchFirst(c: VjpContext, i: number): string {
  if (!rowsLead(c.node, i)) return c.input(i);
  return c.builder.op('Transpose', [c.input(i)], { perm: rowsMoved(axesOf(c, i)) });
}

function rowsFirst(c: VjpContext, i: number, gradient: string): string {
  if (!rowsLead(c.node, i)) return gradient;
  const order = rowsMoved(axesOf(c, i));
  return c.builder.op('Transpose', [gradient], { perm: order.map((_, axis) => order.indexOf(axis)) });
}

const gemmInfer: Infer = (node, inputs) => {
  const a = required(node, inputs, 0);
  const b = required(node, inputs, 1);
  if (a.shape === null || b.shape === null) return [typeOf(a.dtype, [unknownDim(), unknownDim()])];
  const rows = a.shape[intAttribute(node, 'transA', 0) === 1 ? 1 : 0]!;
  const columns = b.shape[intAttribute(node, 'transB', 0) === 1 ? 0 : 1]!;
  return [typeOf(a.dtype, [rows, columns])];
};

export const matmulOps: Op[] = [
  { name: 'MatMul', opsets: [11, 13], infer: matmulInfer, vjp: matmulVjp },
  { name: 'Gemm', opsets: [11, 13], infer: gemmInfer, vjp: gemmVjp },
  // TransposeMatMul is an older name of it.
  ...['FusedMatMul', 'TransposeMatMul'].map(
    (name): Op => ({ name, domain: 'com.microsoft', opsets: [1], infer: fusedInfer, vjp: fusedVjp }),
  ),
];
