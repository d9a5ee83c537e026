/**
 * Quantized weights and activations. Weights are constant: what passes through them is the gradient of the
 * dequantized product. Rounded activations pass their gradient straight through (Bengio et al., arXiv 1308.3432): an
 * integer value's gradient is a float, as though nothing had been rounded or cut off.
 */
import { dtypeName, isFloat } from '../onnx/dtype.ts';
import { intAttribute, type Node } from '../onnx/ir.ts';
import { type TensorType, typeOf } from '../onnx/types.ts';
import { dequantizedBlocks } from './blocks.ts';
import { fusedMatMul, productShape } from './matmul.ts';
import type { Infer, Op, Vjp, VjpContext } from './op.ts';
import { normalAxis, required, unsupported } from './shared.ts';

/** The element type an attribute asks for, or else that of an optional input, or else `fallback`. */
function outputType(node: Node, like: TensorType | null | undefined, fallback: TensorType['dtype']) {
  const asked = intAttribute(node, 'output_dtype', 0);
  return asked === 0 ? (like?.dtype ?? fallback) : dtypeName(asked, node.name);
}

const dequantizeInfer: Infer = (node, inputs) => [
  typeOf(outputType(node, inputs[1], 'float32'), required(node, inputs, 0).shape),
];

const quantizeInfer: Infer = (node, inputs) => [
  typeOf(outputType(node, inputs[2], 'uint8'), required(node, inputs, 0).shape),
];

const dynamicInfer: Infer = (node, inputs) => [
  typeOf('uint8', required(node, inputs, 0).shape),
  typeOf('float32', []),
  typeOf('uint8', []),
];

/** Scale of every element: one number, or one for each index of `axis`. @throws PtunedError unsupported_op for blocks */
function scaleOf(c: VjpContext): string {
  const shape = c.builder.shape(c.input(1));
  if (shape.length === 0 || (shape.length === 1 && shape[0] === 1)) return c.input(1);
  if (shape.length > 1) throw unsupported(c.node, 'rounds activations in blocks, which has no gradient rule');
  const rank = c.builder.shape(c.input(0)).length;
  const axis = normalAxis(c.node, intAttribute(c.node, 'axis', 1), rank);
  const column = Array.from({ length: rank }, (_, i) => (i === axis ? -1 : 1));
  return c.builder.op('Reshape', [c.input(1), c.builder.constant('int64', column)]);
}

const quantizeVjp: Vjp = (c) => [c.builder.op('Div', [c.gradient(0), scaleOf(c)]), null, null];
const dequantizeVjp: Vjp = (c) => [c.builder.op('Mul', [c.gradient(0), scaleOf(c)]), null, null];

/** Scale and zero point follow from the extrema of x; they are taken as given. */
const dynamicVjp: Vjp = (c) => [c.hasGradient(0) ? c.builder.op('Div', [c.gradient(0), c.output(1)]) : null];

const integerProductInfer: Infer = (node, inputs) =>
  productShape(node, inputs, false, false).map((type) => typeOf('int32', type.shape));

/** Y = (A − a₀)(B − b₀). */
const integerProductVjp: Vjp = (c) => {
  const dA = fusedMatMul(c, c.gradient(0), centred(c, 1, 3), { transB: true });
  const dB = fusedMatMul(c, centred(c, 0, 2), c.gradient(0), { transA: true });
  return [dA, dB, null, null];
};

/** Input i without its zero point (one, or one a column of the right operand), as float32. */
function centred(c: VjpContext, i: number, zero: number): string {
  const b = c.builder;
  const name = c.node.inputs[zero] ?? '';
  if (name === '') return b.op('Cast', [c.input(i)], { to: 1 });
  const { shape } = b.type(name);
  const single = shape?.length === 0 || (shape?.length === 1 && shape[0] === 1);
  if (!single && i === 0) throw unsupported(c.node, 'has a zero point for each row, which has no gradient rule');
  // A cast and a subtraction of a constant weight would be folded into a float copy of it when the session opens.
  if (single) {
    const scalar = b.op('Reshape', [name, b.constant('int64', [])]);
    return b.op('DequantizeLinear', [c.input(i), b.constant('float32', 1), scalar]);
  }
  const ones = b.op('Expand', [b.constant('float32', 1), b.op('Shape', [name])]);
  return b.op('DequantizeLinear', [c.input(i), ones, name], { axis: -1 });
}

const blockProductInfer: Infer = (node, inputs) => {
  const a = required(node, inputs, 0);
  return [typeOf(a.dtype, a.shape === null ? null : [...a.shape.slice(0, -1), intAttribute(node, 'N', 0)])];
};

/** Y = A·Wᵀ + bias, W [N, K] in blocks along K. */
const blockProductVjp: Vjp = (c) => {
  const dA = c.builder.op('MatMul', [c.gradient(0), dequantizedBlocks(c)]);
  return [dA, null, null, null, null, c.gradient(0)].slice(0, c.node.inputs.length);
};

/** Rows of a table that is quantized in blocks; uint8 data pack several elements a byte along the last axis. */
const blockGatherInfer: Infer = (node, inputs) => {
  const [data, indices, scales] = [0, 1, 2].map((i) => required(node, inputs, i)) as [
    TensorType,
    TensorType,
    TensorType,
  ];
  const dtype = isFloat(scales.dtype) ? scales.dtype : 'float32';
  if (data.shape === null || indices.shape === null) return [typeOf(dtype, null)];
  const axis = normalAxis(node, intAttribute(node, 'gather_axis', 0), data.shape.length);
  const packed = data.dtype === 'uint8' ? 8 / intAttribute(node, 'bits', 4) : 1;
  const last = data.shape.length - 1;
  const shape = data.shape.map((dim, i) => (i === last && typeof dim === 'number' ? dim * packed : dim));
  return [typeOf(dtype, [...shape.slice(0, axis), ...indices.shape, ...shape.slice(axis + 1)])];
};

/** Whether a token's value depends on every other of the batch, padding included: through the range they are rounded in. */
export function rangesOverBatch(node: Node): boolean {
  return node.op === 'DynamicQuantizeLinear' || node.op === 'DynamicQuantizeMatMul';
}

/** Whether a node rounds its input, or computes with rounded ones: its gradient is straight-through. */
export function rounds(node: Node): boolean {
  if (node.op === 'MatMulNBits') return intAttribute(node, 'accuracy_level', 0) === 4;
  return quantizeOps.some(
    (op) => op.name === node.op && (op.domain ?? '') === node.domain && op.straightThrough === true,
  );
}

export const quantizeOps: Op[] = [
  { name: 'DequantizeLinear', opsets: [11, 13, 19, 21, 23, 24, 25], infer: dequantizeInfer, vjp: dequantizeVjp },
  {
    name: 'QuantizeLinear',
    opsets: [11, 13, 19, 21, 23, 24, 25],
    infer: quantizeInfer,
    vjp: quantizeVjp,
    straightThrough: true,
  },
  // With 16 bits before ONNX had them.
  { name: 'DequantizeLinear', domain: 'com.microsoft', opsets: [1], infer: dequantizeInfer, vjp: dequantizeVjp },
  {
    name: 'QuantizeLinear',
    domain: 'com.microsoft',
    opsets: [1],
    infer: quantizeInfer,
    vjp: quantizeVjp,
    straightThrough: true,
  },
  { name: 'DynamicQuantizeLinear', opsets: [11], infer: dynamicInfer, vjp: dynamicVjp, straightThrough: true },
  { name: 'MatMulInteger', opsets: [11], infer: integerProductInfer, vjp: integerProductVjp, straightThrough: true },
  { name: 'MatMulNBits', domain: 'com.microsoft', opsets: [1], infer: blockProductInfer, vjp: blockProductVjp },
  {
    name: 'GatherBlockQuantized',
    domain: 'com.microsoft',
    opsets: [1],
    infer: blockGatherInfer,
    vjp: { none: 'looks up constant weights' },
  },
];
