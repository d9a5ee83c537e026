/** Ops between rounded values, as quantize_static writes them in operator form: on the floats they stand for, then rounded. */
import { intAttribute } from '../../onnx/ir.ts';
import { type Quantized, quantizedInput, rounded } from './integer-product.ts';
import { type LowerContext, type LoweredOp, read } from './lower.ts';

function float(c: LowerContext, { value, scale, zero }: Quantized): string {
  return c.op('DequantizeLinear', [value, scale, ...(zero === null ? [] : [zero])]);
}

const inputAt = (c: LowerContext, i: number) => float(c, quantizedInput(c, i, i + 1, i + 2));

/** Inputs a, its scale and zero point; b and its own; those of the result. */
function binary(op: string) {
  return (c: LowerContext) => [rounded(c, c.op(op, [inputAt(c, 0), inputAt(c, 3)]), 6, 7)];
}

/** Input, its scale and zero point; those of the result. */
function unary(compute: (c: LowerContext, x: string) => string) {
  return (c: LowerContext) => [rounded(c, compute(c, inputAt(c, 0)), 3, 4)];
}

/** Scale and zero point of the result come first, then three inputs each part. */
function concat(c: LowerContext): string[] {
  const parts = c.node.inputs.flatMap((_, i) => (i >= 2 && i % 3 === 2 ? [inputAt(c, i)] : []));
  return [rounded(c, c.op('Concat', parts, { axis: intAttribute(c.node, 'axis', 0) }), 0, 1)];
}

function where(c: LowerContext): string[] {
  return [rounded(c, c.op('Where', [c.required(0), inputAt(c, 1), inputAt(c, 4)]), 7, 8)];
}

/** Below opset 13 all axes from `axis` on, which differs where it is not the last. */
function softmax(c: LowerContext, x: string): string {
  const axis = intAttribute(c.node, 'axis', -1);
  if (intAttribute(c.node, 'opset', 13) >= 13) return c.op('Softmax', [x], { axis });
  const flat = c.op('Softmax', [c.op('Flatten', [x], { axis })], { axis: -1 });
  return c.op('Reshape', [flat, c.op('Shape', [x])]);
}

const leaky = (c: LowerContext, x: string) => {
  const alpha = c.node.attributes.get('alpha');
  return c.op('LeakyRelu', [x], { alpha: { float: alpha?.kind === 'float' ? alpha.value : 0.01 } });
};

const record = { domain: 'com.microsoft', opsets: [1] } as const;

export const qLinearLowerings: LoweredOp[] = [
  { ...record, name: 'QLinearAdd', attributes: {}, inputs: 8, lower: binary('Add') },
  { ...record, name: 'QLinearMul', attributes: {}, inputs: 8, lower: binary('Mul') },
  {
    ...record,
    name: 'QLinearSigmoid',
    attributes: {},
    inputs: 5,
    lower: unary((c, x) => c.op('Sigmoid', [x])),
  },
  { ...record, name: 'QLinearLeakyRelu', attributes: { alpha: read }, inputs: 5, lower: unary(leaky) },
  { ...record, name: 'QLinearSoftmax', attributes: { axis: read, opset: read }, inputs: 5, lower: unary(softmax) },
  { ...record, name: 'QLinearWhere', attributes: {}, inputs: 9, lower: where },
  { ...record, name: 'QLinearConcat', attributes: { axis: read }, inputs: 1000, lower: concat },
];
