/** Fused products of rounded activations with quantized weights: what quantize_dynamic and quantize_static write, fused. */
import { floatAttribute, intAttribute } from '../../onnx/ir.ts';
import { type LowerContext, type LoweredOp, read } from './lower.ts';
import { attendProjected } from './microsoft-attention.ts';

/** A matrix of integers: value, scale, and zero point where there is one. */
export interface Quantized {
  value: string;
  scale: string;
  zero: string | null;
}

/** Integers of inputs i (value), j (scale), k (zero point). */
export function quantizedInput(c: LowerContext, i: number, j: number, k: number): Quantized {
  return { value: c.required(i), scale: c.required(j), zero: c.input(k) };
}

/** (A − a₀)(B − b₀)·a·b, a float. `added`: integers in units of a·b. */
export function scaledProduct(c: LowerContext, a: Quantized, b: Quantized, added: string | null = null): string {
  const zeros = [a.zero, b.zero].map((zero) => zero ?? '');
  const product = c.op('MatMulInteger', [a.value, b.value, ...(zeros.every((zero) => zero === '') ? [] : zeros)]);
  const whole = added === null ? product : c.op('Add', [product, added]);
  const float = c.op('Cast', [whole], { to: 1 });
  return c.op('Mul', [float, c.op('Mul', [a.scale, b.scale])]);
}

function withBias(c: LowerContext, y: string, bias: string | null): string {
  return bias === null ? y : c.op('Add', [y, bias]);
}

function dynamicMatMul(c: LowerContext): string[] {
  const [value, scale, zero] = c.builder.emit('DynamicQuantizeLinear', [c.required(0)], {}, { outputs: 3 });
  const product = scaledProduct(c, { value: value!, scale: scale!, zero: zero! }, quantizedInput(c, 1, 2, 3));
  return [withBias(c, product, c.input(4))];
}

function productToFloat(c: LowerContext): string[] {
  return [withBias(c, scaledProduct(c, quantizedInput(c, 0, 2, 4), quantizedInput(c, 1, 3, 5)), c.input(6))];
}

function qAttention(c: LowerContext): string[] {
  const product = scaledProduct(c, quantizedInput(c, 0, 3, 6), quantizedInput(c, 1, 4, 7));
  const projected = c.op('Add', [product, c.required(2)]);
  return attendProjected(c, projected, { mask: c.input(5), past: c.input(8), bias: null });
}

function transposed(c: LowerContext, one: Quantized, attribute: string): Quantized {
  if (intAttribute(c.node, attribute, 0) !== 1) return one;
  return { ...one, value: c.op('Transpose', [one.value], { perm: [1, 0] }) };
}

/** C is in units of the product, which α stretches; without a scale of its own the result is a float. */
function qGemm(c: LowerContext): string[] {
  const a = transposed(c, quantizedInput(c, 0, 1, 2), 'transA');
  const b = transposed(c, quantizedInput(c, 3, 4, 5), 'transB');
  const product = scaledProduct(c, a, b, c.input(6));
  const alpha = floatAttribute(c.node, 'alpha', 1);
  const y = alpha === 1 ? product : c.op('Mul', [product, c.scalar(alpha, product)]);
  return [c.input(7) === null ? y : rounded(c, y, 7, 8)];
}

function qLinearMatMul(c: LowerContext): string[] {
  return [rounded(c, scaledProduct(c, quantizedInput(c, 0, 1, 2), quantizedInput(c, 3, 4, 5)), 6, 7)];
}

/** A float in integers with the scale and zero point of inputs i and j. */
export function rounded(c: LowerContext, y: string, i: number, j: number): string {
  const zero = c.input(j);
  return c.op('QuantizeLinear', [y, c.required(i), ...(zero === null ? [] : [zero])]);
}

const domain = 'com.microsoft';

export const integerProductLowerings: LoweredOp[] = [
  { name: 'DynamicQuantizeMatMul', domain, opsets: [1], attributes: {}, inputs: 5, lower: dynamicMatMul },
  { name: 'MatMulIntegerToFloat', domain, opsets: [1], attributes: {}, inputs: 7, lower: productToFloat },
  {
    name: 'QAttention',
    domain,
    opsets: [1],
    attributes: {
      do_rotary: { only: 0 },
      mask_filter_value: read,
      num_heads: read,
      past_present_share_buffer: { only: 0 },
      scale: read,
      unidirectional: read,
    },
    inputs: 9,
    lower: qAttention,
  },
  {
    name: 'QGemm',
    domain,
    opsets: [1],
    attributes: { alpha: read, transA: read, transB: read },
    inputs: 9,
    lower: qGemm,
  },
  { name: 'QLinearMatMul', opsets: [11, 21], attributes: {}, inputs: 8, lower: qLinearMatMul },
];
