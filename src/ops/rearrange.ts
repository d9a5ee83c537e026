/** Ops that move elements in ways of their own: gradients move back. */
import { unknownDim } from '../onnx/dim.ts';
import { intAttribute } from '../onnx/ir.ts';
import { typeOf } from '../onnx/types.ts';
import type { Infer, Op, Vjp } from './op.ts';
import { scatterBack } from './places.ts';
import { likeFirst, normalAxis, required } from './shared.ts';

/** Places along an axis, or of all elements in order, that a condition picks. */
const compressInfer: Infer = (node, inputs) => {
  const { dtype, shape } = required(node, inputs, 0);
  if (!node.attributes.has('axis')) return [typeOf(dtype, [unknownDim()])];
  if (shape === null) return [typeOf(dtype, null)];
  const axis = normalAxis(node, intAttribute(node, 'axis', 0), shape.length);
  return [typeOf(dtype, shape.map((dim, i) => (i === axis ? unknownDim() : dim)))]; // biome-ignore format: short
};

const compressVjp: Vjp = (c) => {
  const axis = c.node.attributes.has('axis') ? { axis: intAttribute(c.node, 'axis', 0) } : {};
  return [scatterBack(c, (places) => c.builder.op('Compress', [places, c.input(1)], axis)), null];
};

/** The first elements of each row in reverse: done twice, nothing has changed. */
const reverseVjp: Vjp = (c) => {
  const attributes = {
    batch_axis: intAttribute(c.node, 'batch_axis', 1),
    time_axis: intAttribute(c.node, 'time_axis', 0),
  };
  return [c.builder.op('ReverseSequence', [c.gradient(0), c.input(1)], attributes), null];
};

export const rearrangeOps: Op[] = [
  { name: 'Compress', opsets: [11], infer: compressInfer, vjp: compressVjp },
  { name: 'ReverseSequence', opsets: [11], infer: likeFirst, vjp: reverseVjp },
];
