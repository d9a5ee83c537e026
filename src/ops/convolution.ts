/** Convolution over text: any stride, padding, dilation and groups. */
import { addDims, type Dim, multiplyDims, shapeText, unknownDim } from '../onnx/dim.ts';
import { intAttribute, intsAttribute, type Node } from '../onnx/ir.ts';
import { typeOf } from '../onnx/types.ts';
import { type Settings, settingsOf } from './convolution-pads.ts';
import type { Infer, Op, Vjp, VjpContext } from './op.ts';
import { reshapeLike } from './places.ts';
import { required, unsupported } from './shared.ts';

/** Sizes behind the channels; `size` gets a dimension, what padding and kernel add to it, and the stride. */
function spatialSizes(
  node: Node,
  x: Dim[],
  w: Dim[],
  size: (dim: Dim, grown: number, stride: number, extra: number) => Dim,
): Dim[] {
  const { strides, pads, dilations, outputPadding } = settingsOf(node, x, w);
  return x.slice(2).map((dim, i): Dim => {
    const kernel = w[i + 2]!;
    if (pads === null || typeof kernel !== 'number') return unknownDim();
    const grown = pads[i]! + pads[i + strides.length]! - dilations[i]! * (kernel - 1);
    return size(dim, grown, strides[i]!, outputPadding[i]!);
  });
}

const convInfer: Infer = (node, inputs) => {
  const [x, w] = [required(node, inputs, 0), required(node, inputs, 1)];
  if (x.shape === null || w.shape === null) return [typeOf(x.dtype, null)];
  return [typeOf(x.dtype, [x.shape[0]!, w.shape[0]!, ...spatialSizes(node, x.shape, w.shape, convolved)])];
};

function convolved(dim: Dim, grown: number, stride: number): Dim {
  if (stride === 1) return addDims(dim, grown);
  return typeof dim === 'number' ? Math.floor((dim + grown - 1) / stride) + 1 : unknownDim();
}

const transposeInfer: Infer = (node, inputs) => {
  const [x, w] = [required(node, inputs, 0), required(node, inputs, 1)];
  if (x.shape === null || w.shape === null) return [typeOf(x.dtype, null)];
  const channels = multiplyDims(w.shape[1]!, intAttribute(node, 'group', 1));
  const asked = intsAttribute(node, 'output_shape')?.slice(2 - x.shape.length);
  if (asked !== undefined) return [typeOf(x.dtype, [x.shape[0]!, channels, ...asked])];
  return [typeOf(x.dtype, [x.shape[0]!, channels, ...spatialSizes(node, x.shape, w.shape, spread)])];
};

function spread(dim: Dim, grown: number, stride: number, extra: number): Dim {
  return addDims(multiplyDims(addDims(dim, -1), stride), 1 + extra - grown);
}

type Known = Settings & { pads: number[] };

/** Settings of a node that has a gradient rule. @throws PtunedError unsupported_op where its padding is not known */
function differentiable(c: VjpContext): Known {
  const { builder: b } = c;
  const { pads, ...settings } = settingsOf(c.node, b.shape(c.input(0)), b.shape(c.input(1)));
  if (pads !== null) return { ...settings, pads };
  const sizes = `${shapeText(b.shape(c.input(0)))} and ${shapeText(b.shape(c.input(1)))}`;
  throw unsupported(c.node, `pads itself by sizes that only the run knows (${sizes}); pads as numbers have a gradient`);
}

/** dX is a transposed convolution with the same weight, and the other way round. */
function backward(op: 'Conv' | 'ConvTranspose'): Vjp {
  return (c) => {
    const settings = differentiable(c);
    const dx = op === 'Conv' ? convolve(c, settings) : spreadBack(c, settings);
    const rank = c.builder.shape(c.input(0)).length;
    const axes = Array.from({ length: rank }, (_, i) => i).filter((axis) => axis !== 1);
    const db = c.builder.op('ReduceSum', [c.gradient(0), c.builder.constant('int64', axes)], { keepdims: 0 });
    const ends: [string, string] = op === 'ConvTranspose' ? [c.input(0), c.gradient(0)] : [c.gradient(0), c.input(0)];
    return [dx, weightGradient(c, ends, settings), db].slice(0, c.node.inputs.length);
  };
}

function convolve(c: VjpContext, { strides, pads, dilations, group }: Known): string {
  return c.builder.op('Conv', [c.gradient(0), c.input(1)], { strides, pads, dilations, group });
}

/**
 * Each element of dY goes where the kernel took it from. Strides may have left places over at the end, so that only the
 * run knows how many to add; padding is cut off.
 */
function spreadBack(c: VjpContext, { strides, pads, dilations, group }: Known): string {
  const b = c.builder;
  const inputs = [c.gradient(0), c.input(1)];
  if (strides.every((stride) => stride === 1)) return b.op('ConvTranspose', inputs, { pads, dilations, group });
  const spread = b.op('ConvTranspose', inputs, { strides, dilations, group });
  const size = (value: string) => b.op('Shape', [value], { start: 2 });
  const front = pads.slice(0, strides.length);
  const left = b.op('Sub', [size(c.input(0)), size(spread)]);
  const ends = b.op('Add', [left, b.constant('int64', front)]);
  const starts = b.constant('int64', [0, 0, ...front.map((pad) => -pad)]);
  const amounts = b.op('Concat', [starts, b.constant('int64', [0, 0]), ends], { axis: 0 });
  return b.op('Pad', [spread, amounts]);
}

/** A convolution of the wide end x with the narrow end dY, batch and channels exchanged: [M, C / group, kernel]. */
function weightGradient(c: VjpContext, [x, dy]: [string, string], settings: Known): string {
  const b = c.builder;
  const { pads, strides, dilations, group } = settings;
  const rank = b.shape(x).length;
  const places = Array.from({ length: rank - 2 }, (_, i) => i);
  const swap = [1, 0, ...places.map((i) => i + 2)];
  const dims = b.op('Shape', [x]);
  const part = (from: number, to: number) =>
    b.op('Slice', [dims, b.constant('int64', [from]), b.constant('int64', [to])]);
  // x [N, G·C, …] as [C, G·N, …]: the groups of channels stay groups.
  const grouped = b.op('Concat', [part(0, 1), b.constant('int64', [group, -1]), part(2, rank)], { axis: 0 });
  const perm = [2, 1, 0, ...places.map((i) => i + 3)];
  const turned = b.op('Transpose', [b.op('Reshape', [x, grouped])], { perm });
  const rows = b.op('Mul', [part(0, 1), b.constant('int64', [group])]);
  const wide = b.op('Reshape', [turned, b.op('Concat', [b.constant('int64', [-1]), rows, part(2, rank)], { axis: 0 })]);
  const narrow = b.op('Transpose', [dy], { perm: swap });
  const attributes = { pads, strides: dilations, dilations: strides, group };
  const product = b.op('Conv', [wide, narrow], attributes);
  // Strides (the forward's dilations) may leave places over behind the kernel.
  const zeros = b.constant(
    'int64',
    places.map(() => 0),
  );
  const kernel = b.op('Shape', [c.input(1)], { start: 2, end: rank });
  const axes = b.constant(
    'int64',
    places.map((i) => i + 2),
  );
  const cut = b.op('Slice', [product, zeros, kernel, axes]);
  return reshapeLike(c, b.op('Transpose', [cut], { perm: swap }), c.input(1));
}

export const convolutionOps: Op[] = [
  { name: 'Conv', opsets: [11, 22], infer: convInfer, vjp: backward('ConvTranspose') },
  { name: 'ConvTranspose', opsets: [11, 22], infer: transposeInfer, vjp: backward('Conv') },
];
