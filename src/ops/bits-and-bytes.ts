/** Weights in 4-bit floats, as bitsandbytes has them (Dettmers et al., arXiv 2305.14314): a code book times the largest of a block. */
import { elementCount, intAttribute } from '../onnx/ir.ts';
import { typeOf } from '../onnx/types.ts';
import type { Infer, Op, Vjp, VjpContext } from './op.ts';
import { castLike, required, unsupported } from './shared.ts';

/** FP4: sign, two bits of exponent, one of mantissa, with the largest value as 1. */
const magnitudes = [0, 1 / 192, 2 / 3, 1, 1 / 3, 1 / 2, 1 / 6, 1 / 4];
const fp4 = [...magnitudes, ...magnitudes.map((one) => -one)];

/** NF4: quantiles of the normal distribution, both tails scaled to 1. */
const nf4 = [
  -1, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
  -0.09105003625154495, 0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
  0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1,
]; // biome-ignore format: a table

const infer: Infer = (node, inputs) => {
  const a = required(node, inputs, 0);
  return [typeOf(a.dtype, a.shape === null ? null : [...a.shape.slice(0, -1), intAttribute(node, 'N', 0)])];
};

/** Y = A·Wᵀ, W [N, K]. */
const vjp: Vjp = (c) => [c.builder.op('MatMul', [c.gradient(0), dequantized(c)]), null, null];

/** W [N, K] from its bytes, of which the high half comes first. */
function dequantized(c: VjpContext): string {
  const b = c.builder;
  const [rows, columns] = [intAttribute(c.node, 'N', 0), intAttribute(c.node, 'K', 0)];
  const size = intAttribute(c.node, 'block_size', 0);
  const halves = b.op('DequantizeLinear', [bytesOf(c, rows * columns, size), b.constant('float32', 1)]);
  const parts = b.emit('Split', [halves, b.constant('int64', [1, 1])], { axis: 1 }, { outputs: 2 });
  const codes = b.op('Cast', [b.op('Concat', parts.toReversed(), { axis: 1 })], { to: 6 });
  const book = castLike(b, b.constant('float32', intAttribute(c.node, 'quant_type', 0) === 1 ? nf4 : fp4), c.input(2));
  const values = b.op('Gather', [book, b.op('Reshape', [codes, b.constant('int64', [-1, size])])], { axis: 0 });
  const largest = b.op('Reshape', [c.input(2), b.constant('int64', [-1, 1])]);
  return b.op('Reshape', [b.op('Mul', [values, largest]), b.constant('int64', [rows, columns])]);
}

/** The bytes where they lie, as pairs of 4-bit codes. @throws PtunedError unsupported_op for forms without a rule */
function bytesOf(c: VjpContext, count: number, size: number): string {
  if (intAttribute(c.node, 'transB', 1) !== 1)
    throw unsupported(c.node, 'has transB = 0, which the runtime leaves out on a CPU; transB = 1 has a gradient');
  if (count % size !== 0)
    throw unsupported(c.node, `has ${count} weights, which blocks of ${size} do not divide, and no gradient rule`);
  const found = c.builder.graph.initializers.get(c.input(1));
  if (found === undefined || found.dtype !== 'uint8' || elementCount(found.dims) !== count / 2)
    throw unsupported(c.node, `has an input 1 that is not ${count / 2} bytes of constant weights`);
  return c.builder.initializer('packed', { dtype: 'uint4', dims: [count / 2, 2], data: found.data });
}

export const bitsAndBytesOps: Op[] = [{ name: 'MatMulBnb4', domain: 'com.microsoft', opsets: [1], infer, vjp }];
