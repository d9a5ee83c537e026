/** Ops that rearrange elements: their gradients rearrange back. */
import { PtunedError } from '../errors.ts';
import { addDims, type Dim, divideDims, multiplyDims, productOf, unknownDim } from '../onnx/dim.ts';
import { describeNode, intAttribute, intsAttribute, type Node, stringAttribute } from '../onnx/ir.ts';
import { broadcastShapes, type TensorType, typeOf } from '../onnx/types.ts';
import { axesAttribute, splitAttribute, splitCount } from './older.ts';
import type { Infer, Op, Vjp, VjpContext } from './op.ts';
import { reshapeLike, scatterBack } from './places.ts';
import { knownNumbers, likeFirst, normalAxis, required, unknownShape } from './shared.ts';

const backToInput: Vjp = (c) => [reshapeLike(c, c.gradient(0), c.input(0)), ...c.node.inputs.slice(1).map(() => null)];

const reshapeInfer: Infer = (node, inputs) => {
  const data = required(node, inputs, 0);
  const target = required(node, inputs, 1);
  const keepZero = intAttribute(node, 'allowzero', 0) === 1;
  const value = target.value;
  if (value === null) {
    return [typeOf(data.dtype, unknownShape(node, target.shape?.[0]))];
  }
  const shape = value.map((dim, i): Dim => (dim === 0 && !keepZero ? (data.shape?.[i] ?? unknownDim()) : dim));
  const open = shape.indexOf(-1);
  if (open >= 0) {
    const known = productOf(shape.filter((_, i) => i !== open));
    const total = data.shape === null ? null : productOf(data.shape);
    shape[open] = (total === null ? null : divideDims(total, known)) ?? unknownDim();
  }
  return [typeOf(data.dtype, shape, data.value)];
};

const transposeInfer: Infer = (node, inputs) => {
  const { dtype, shape } = required(node, inputs, 0);
  if (shape === null) return [typeOf(dtype, null)];
  const order = permutation(node, shape.length);
  return [
    typeOf(
      dtype,
      order.map((axis) => shape[axis]!),
    ),
  ];
};

function permutation(node: Node, rank: number): number[] {
  const axes = Array.from({ length: rank }, (_, i) => i);
  const order = intsAttribute(node, 'perm') ?? axes.toReversed();
  if (order.length === rank && axes.every((axis) => order.includes(axis))) return order;
  throw new PtunedError('damaged_model', `${describeNode(node)} has perm [${order}] on a tensor of rank ${rank}.`);
}

const transposeVjp: Vjp = (c) => {
  const order = permutation(c.node, c.builder.shape(c.input(0)).length);
  const inverse = order.map((_, i) => order.indexOf(i));
  return [c.builder.op('Transpose', [c.gradient(0)], { perm: inverse })];
};

const unsqueezeInfer: Infer = (node, inputs) => {
  const data = required(node, inputs, 0);
  const axes = knownNumbers(inputs[1]);
  if (data.shape === null || axes === null) return [typeOf(data.dtype, null)];
  const rank = data.shape.length + axes.length;
  const places = axes.map((axis) => normalAxis(node, axis, rank));
  const rest = [...data.shape];
  const shape = Array.from({ length: rank }, (_, i): Dim => (places.includes(i) ? 1 : rest.shift()!));
  return [typeOf(data.dtype, shape, data.value)];
};

const squeezeInfer: Infer = (node, inputs) => {
  const data = required(node, inputs, 0);
  const given = inputs[1] ?? null;
  const axes = knownNumbers(given);
  if (data.shape === null || (given !== null && axes === null)) return [typeOf(data.dtype, null)];
  const { shape: dims } = data;
  // Without axes every dimension of 1 goes; symbolic ones are taken to be larger, as exporters mean them.
  const dropped =
    axes?.map((axis) => normalAxis(node, axis, dims.length)) ?? dims.flatMap((dim, i) => (dim === 1 ? [i] : []));
  return [
    typeOf(
      data.dtype,
      dims.filter((_, i) => !dropped.includes(i)),
      data.value,
    ),
  ];
};

const flattenInfer: Infer = (node, inputs) => {
  const { dtype, shape } = required(node, inputs, 0);
  if (shape === null) return [typeOf(dtype, [unknownDim(), unknownDim()])];
  const axis = intAttribute(node, 'axis', 1);
  const at = axis < 0 ? axis + shape.length : axis;
  return [typeOf(dtype, [productOf(shape.slice(0, at)), productOf(shape.slice(at))])];
};

const expandInfer: Infer = (node, inputs) => {
  const data = required(node, inputs, 0);
  const target = required(node, inputs, 1);
  const wanted = target.value ?? unknownShape(node, target.shape?.[0]);
  const shape = broadcastShapes(data.shape, wanted, unknownDim);
  const single = data.value?.length === 1 && shape !== null ? productOf(shape) : null;
  const value =
    typeof single === 'number' && single <= 64 ? Array.from({ length: single }, () => data.value![0]!) : null;
  return [typeOf(data.dtype, shape, value)];
};

const tileInfer: Infer = (node, inputs) => {
  const data = required(node, inputs, 0);
  const repeats = required(node, inputs, 1).value;
  const shape =
    data.shape?.map((dim, i) => (repeats?.[i] === undefined ? unknownDim() : multiplyDims(dim, repeats[i]))) ?? null;
  return [typeOf(data.dtype, shape)];
};

/** Reshape to [repeat, dim, repeat, dim, …], then sum over the repeats. */
const tileVjp: Vjp = (c) => {
  const b = c.builder;
  const rank = b.shape(c.input(0)).length;
  const dims = b.op('Shape', [c.input(0)]);
  const pairs = b.op('Concat', [asColumn(c, c.input(1)), asColumn(c, dims)], { axis: 1 });
  const folded = b.op('Reshape', [c.gradient(0), b.op('Reshape', [pairs, b.constant('int64', [2 * rank])])]);
  const axes = b.constant(
    'int64',
    Array.from({ length: rank }, (_, i) => 2 * i),
  );
  return [reshapeLike(c, b.op('ReduceSum', [folded, axes], { keepdims: 0 }), c.input(0)), null];
};

function asColumn(c: VjpContext, list: string): string {
  return c.builder.op('Unsqueeze', [list, c.builder.constant('int64', [1])]);
}

const concatInfer: Infer = (node, inputs) => {
  const first = required(node, inputs, 0);
  const parts = inputs.filter((one) => one !== null);
  const value = parts.every((part) => part.value !== null) ? parts.flatMap((part) => part.value!) : null;
  const known = parts.find((part) => part.shape !== null)?.shape ?? null;
  if (known === null) return [typeOf(first.dtype, null)];
  const axis = normalAxis(node, intAttribute(node, 'axis', 0), known.length);
  const shape = known.map((dim, i) => {
    if (i !== axis) return parts.map((part) => part.shape?.[i]).find((one) => typeof one === 'number') ?? dim;
    return parts.some((part) => part.shape === null)
      ? unknownDim()
      : parts.reduce<Dim>((sum, part) => addDims(sum, part.shape![axis]!), 0);
  });
  return [typeOf(first.dtype, shape, known.length === 1 ? value : null)];
};

/** Split by the inputs' own sizes along the axis, asked at run time where they are symbolic. */
const concatVjp: Vjp = (c) => {
  const b = c.builder;
  const rank = b.shape(c.input(0)).length;
  const axis = normalAxis(c.node, intAttribute(c.node, 'axis', 0), rank);
  const sizes = c.node.inputs.map((name) => b.shape(name)[axis]!);
  const split = sizes.every((size) => typeof size === 'number')
    ? b.constant('int64', sizes as number[])
    : b.op(
        'Concat',
        c.node.inputs.map((name) => b.op('Shape', [name], { start: axis, end: axis + 1 })),
        { axis: 0 },
      );
  return b.emit('Split', [c.gradient(0), split], { axis }, { outputs: sizes.length });
};

const splitInfer: Infer = (node, inputs) => {
  const data = required(node, inputs, 0);
  const axis = data.shape === null ? 0 : normalAxis(node, intAttribute(node, 'axis', 0), data.shape.length);
  const sizes = inputs[1]?.value ?? null;
  const count = node.outputs.length;
  return node.outputs.map((_, i) => {
    const even = data.shape === null ? null : divideDims(data.shape[axis]!, count);
    const size = sizes?.[i] ?? (inputs[1] === null || inputs[1] === undefined ? even : null) ?? unknownDim();
    return typeOf(
      data.dtype,
      data.shape?.map((dim, at) => (at === axis ? size : dim)) ?? null,
      splitValue(data, sizes, i),
    );
  });
};

function splitValue(data: TensorType, sizes: Dim[] | null, i: number): Dim[] | null {
  if (data.value === null || data.shape?.length !== 1 || sizes === null) return null;
  if (!sizes.every((size) => typeof size === 'number')) return null;
  const start = (sizes.slice(0, i) as number[]).reduce((sum, size) => sum + size, 0);
  return data.value.slice(start, start + (sizes[i] as number));
}

const splitVjp: Vjp = (c) => {
  const axis = intAttribute(c.node, 'axis', 0);
  const parts = c.node.outputs.map((_, i) => c.gradient(i));
  return [c.builder.op('Concat', parts, { axis }), ...c.node.inputs.slice(1).map(() => null)];
};

const padInfer: Infer = (node, inputs) => {
  const data = required(node, inputs, 0);
  const pads = inputs[1]?.value ?? null;
  const rank = data.shape?.length ?? 0;
  const axes = inputs[3] === undefined || inputs[3] === null ? null : knownNumbers(inputs[3]);
  const places = axes?.map((axis) => normalAxis(node, axis, rank)) ?? Array.from({ length: rank }, (_, i) => i);
  const shape = data.shape?.map((dim, i): Dim => {
    const at = places.indexOf(i);
    if (pads === null) return unknownDim();
    return at < 0 ? dim : addDims(dim, addDims(pads[at]!, pads[at + places.length]!));
  });
  return [typeOf(data.dtype, shape ?? null)];
};

/**
 * Constant mode: negative pads cut the padding off again, and what was cut off is the constant's. Other modes copy
 * elements, whose gradients add up.
 */
const padVjp: Vjp = (c) => {
  const b = c.builder;
  const rest = c.node.inputs.slice(1).map(() => null);
  const mode = stringAttribute(c.node, 'mode', 'constant');
  const axes = c.node.inputs[3] ?? '';
  if (mode !== 'constant') {
    const pick = (places: string) => b.op('Pad', [places, c.input(1), '', axes], { mode });
    return [scatterBack(c, pick), ...rest];
  }
  const pads = knownNumbers(b.type(c.input(1)));
  const back =
    pads === null
      ? b.op('Neg', [c.input(1)])
      : b.constant(
          'int64',
          pads.map((one) => -one),
        );
  const dx = b.op('Pad', axes === '' ? [c.gradient(0), back] : [c.gradient(0), back, '', axes]);
  const sum = (value: string) => b.op('ReduceSum', [value], { keepdims: 0 });
  const wrtConstant = c.node.inputs[2] ? b.op('Sub', [sum(c.gradient(0)), sum(dx)]) : null;
  return [dx, null, wrtConstant, null].slice(0, c.node.inputs.length);
};

const cumSumVjp: Vjp = (c) => [
  c.builder.op('CumSum', [c.gradient(0), c.input(1)], {
    exclusive: intAttribute(c.node, 'exclusive', 0),
    reverse: 1 - intAttribute(c.node, 'reverse', 0),
  }),
  null,
];

const triluVjp: Vjp = (c) => [
  c.builder.op('Trilu', [c.gradient(0), ...c.node.inputs.slice(1)], { upper: intAttribute(c.node, 'upper', 1) }),
  ...c.node.inputs.slice(1).map(() => null),
];

export const layoutOps: Op[] = [
  { name: 'Reshape', opsets: [11, 13, 14, 19, 21, 23, 24, 25], infer: reshapeInfer, vjp: backToInput },
  { name: 'Flatten', opsets: [11, 13, 21, 23, 24, 25], infer: flattenInfer, vjp: backToInput },
  {
    name: 'Squeeze',
    opsets: [11, 13, 21, 23, 24, 25],
    older: [axesAttribute(13)],
    infer: squeezeInfer,
    vjp: backToInput,
  },
  {
    name: 'Unsqueeze',
    opsets: [11, 13, 21, 23, 24, 25],
    older: [axesAttribute(13)],
    infer: unsqueezeInfer,
    vjp: backToInput,
  },
  { name: 'Transpose', opsets: [11, 13, 21, 23, 24, 25], infer: transposeInfer, vjp: transposeVjp },
  // The engine itself sums over what Expand stretched.
  { name: 'Expand', opsets: [11, 13], infer: expandInfer, vjp: (c) => [c.gradient(0), null] },
  { name: 'Tile', opsets: [11, 13], infer: tileInfer, vjp: tileVjp },
  { name: 'Concat', opsets: [11, 13], infer: concatInfer, vjp: concatVjp },
  { name: 'Split', opsets: [11, 13, 18], older: [splitAttribute, splitCount], infer: splitInfer, vjp: splitVjp },
  { name: 'Pad', opsets: [11, 13, 18, 19, 21, 23, 24, 25], infer: padInfer, vjp: padVjp },
  { name: 'CumSum', opsets: [11, 14], infer: likeFirst, vjp: cumSumVjp },
  { name: 'Trilu', opsets: [14], infer: likeFirst, vjp: triluVjp },
];
