/** Convolution over text: stride 1, any padding, dilation and groups. */
import { addDims, type Dim, multiplyDims, unknownDim } from '../onnx/dim.ts';
import { intAttribute, intsAttribute, type Node, stringAttribute } from '../onnx/ir.ts';
import { typeOf } from '../onnx/types.ts';
import type { Infer, Op, Vjp, VjpContext } from './op.ts';
import { reshapeLike } from './places.ts';
import { required, unsupported } from './shared.ts';

interface Settings {
  strides: number[];
  pads: number[];
  dilations: number[];
  group: number;
}

function settingsOf(node: Node, spatial: number): Settings {
  const ones = Array.from({ length: spatial }, () => 1);
  return {
    strides: intsAttribute(node, 'strides') ?? ones,
    pads: intsAttribute(node, 'pads') ?? [...ones, ...ones].map(() => 0),
    dilations: intsAttribute(node, 'dilations') ?? ones,
    group: intAttribute(node, 'group', 1),
  };
}

function spatialSizes(node: Node, x: Dim[], w: Dim[], direction: 1 | -1): Dim[] {
  const { strides, pads, dilations } = settingsOf(node, x.length - 2);
  const automatic = stringAttribute(node, 'auto_pad', 'NOTSET') !== 'NOTSET';
  return x.slice(2).map((dim, i): Dim => {
    const kernel = w[i + 2]!;
    if (automatic || strides[i] !== 1 || typeof kernel !== 'number') return unknownDim();
    return addDims(dim, direction * (pads[i]! + pads[i + strides.length]! - dilations[i]! * (kernel - 1)));
  });
}

const convInfer: Infer = (node, inputs) => {
  const [x, w] = [required(node, inputs, 0), required(node, inputs, 1)];
  if (x.shape === null || w.shape === null) return [typeOf(x.dtype, null)];
  return [typeOf(x.dtype, [x.shape[0]!, w.shape[0]!, ...spatialSizes(node, x.shape, w.shape, 1)])];
};

const transposeInfer: Infer = (node, inputs) => {
  const [x, w] = [required(node, inputs, 0), required(node, inputs, 1)];
  if (x.shape === null || w.shape === null) return [typeOf(x.dtype, null)];
  const channels = multiplyDims(w.shape[1]!, intAttribute(node, 'group', 1));
  return [typeOf(x.dtype, [x.shape[0]!, channels, ...spatialSizes(node, x.shape, w.shape, -1)])];
};

/** Settings of a node that has a gradient rule. @throws PtunedError unsupported_op naming what has none */
function differentiable(c: VjpContext): Settings {
  const settings = settingsOf(c.node, c.builder.shape(c.input(0)).length - 2);
  const other = ['auto_pad', 'output_padding', 'output_shape'].find((name) => {
    const found = c.node.attributes.get(name);
    return found !== undefined && !(found.kind === 'string' && found.value === 'NOTSET');
  });
  const what = settings.strides.some((stride) => stride !== 1) ? `strides ${settings.strides}` : other;
  if (what === undefined) return settings;
  throw unsupported(c.node, `has ${what}; stride 1 with pads has a gradient rule`);
}

/** dX is a transposed convolution with the same weight, and the other way round. */
function backward(op: 'Conv' | 'ConvTranspose'): Vjp {
  return (c) => {
    const { pads, dilations, group } = differentiable(c);
    const dx = c.builder.op(op, [c.gradient(0), c.input(1)], { pads, dilations, group });
    const rank = c.builder.shape(c.input(0)).length;
    const axes = Array.from({ length: rank }, (_, i) => i).filter((axis) => axis !== 1);
    const db = c.builder.op('ReduceSum', [c.gradient(0), c.builder.constant('int64', axes)], { keepdims: 0 });
    const ends: [string, string] = op === 'ConvTranspose' ? [c.input(0), c.gradient(0)] : [c.gradient(0), c.input(0)];
    return [dx, weightGradient(c, ends, { pads, dilations, group }), db].slice(0, c.node.inputs.length);
  };
}

/** A convolution of the wide end x with the narrow end dY, batch and channels exchanged: [M, C / group, kernel]. */
function weightGradient(c: VjpContext, [x, dy]: [string, string], settings: Omit<Settings, 'strides'>): string {
  const b = c.builder;
  const { pads, dilations, group } = settings;
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
  const attributes = { pads, strides: dilations, dilations: places.map(() => 1), group };
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
  { name: 'Conv', infer: convInfer, vjp: backward('ConvTranspose') },
  { name: 'ConvTranspose', infer: transposeInfer, vjp: backward('Conv') },
];
