/** Ops that pick elements: gradients put them back. */
import { addDims, type Dim, sameDim, subtractDims, unknownDim } from '../onnx/dim.ts';
import { intAttribute, type Node } from '../onnx/ir.ts';
import { type TensorType, typeOf } from '../onnx/types.ts';
import type { Infer, Op, Vjp, VjpContext } from './op.ts';
import { addAt, scatterBack, zerosLike } from './places.ts';
import { knownNumbers, normalAxis, required } from './shared.ts';

const gatherInfer: Infer = (node, inputs) => {
  const data = required(node, inputs, 0);
  const indices = required(node, inputs, 1);
  if (data.shape === null || indices.shape === null) return [typeOf(data.dtype, null)];
  const axis = normalAxis(node, intAttribute(node, 'axis', 0), data.shape.length);
  const shape = [...data.shape.slice(0, axis), ...indices.shape, ...data.shape.slice(axis + 1)];
  const at = knownNumbers(indices);
  const values = data.value;
  const value =
    data.shape.length === 1 && values !== null && at !== null
      ? at.map((i) => values[i < 0 ? i + values.length : i]!)
      : null;
  return [typeOf(data.dtype, shape, value?.every((one) => one !== undefined) ? value : null)];
};

/** Adds dY back at the gathered positions. */
const gatherVjp: Vjp = (c) => {
  const b = c.builder;
  const shape = b.shape(c.input(0));
  const rank = shape.length;
  const axis = normalAxis(c.node, intAttribute(c.node, 'axis', 0), rank);
  const zeros = zerosLike(c, c.input(0));
  if (axis === 0) {
    const indices = b.op('Unsqueeze', [c.input(1), b.constant('int64', [-1])]);
    return [addAt(b, 'ScatterND', zeros, nonNegative(c, indices, c.input(0), 0), c.gradient(0)), null];
  }
  // All index axes become one axis, so that dY has the rank of the data.
  const dims = b.op('Shape', [c.input(0)]);
  const part = (from: number, to: number) =>
    b.op('Slice', [dims, b.constant('int64', [from]), b.constant('int64', [to])]);
  const around = [part(0, axis), b.constant('int64', [-1]), part(axis + 1, rank)];
  const updates = b.op('Reshape', [c.gradient(0), b.op('Concat', around, { axis: 0 })]);
  const column = b.constant(
    'int64',
    Array.from({ length: rank }, (_, i) => (i === axis ? -1 : 1)),
  );
  const indices = b.op('Expand', [b.op('Reshape', [c.input(1), column]), b.op('Shape', [updates])]);
  return [addAt(b, 'ScatterElements', zeros, indices, updates, { axis }), null];
};

/** ScatterND takes negative indices only on some devices: count from the front. */
function nonNegative(c: VjpContext, indices: string, data: string, axis: number): string {
  const b = c.builder;
  const known = b.type(c.input(1)).value;
  if (known?.every((one) => typeof one === 'number' && one >= 0)) return indices64(c, indices);
  const wide = indices64(c, indices);
  const size = b.op('Shape', [data], { start: axis, end: axis + 1 });
  return b.op('Where', [b.op('Less', [wide, b.constant('int64', 0)]), b.op('Add', [wide, size]), wide]);
}

function indices64(c: VjpContext, indices: string): string {
  return c.builder.type(indices).dtype === 'int64' ? indices : c.builder.op('Cast', [indices], { to: 7 });
}

const gatherElementsInfer: Infer = (node, inputs) => [
  typeOf(required(node, inputs, 0).dtype, required(node, inputs, 1).shape),
];

const gatherElementsVjp: Vjp = (c) => {
  const axis = intAttribute(c.node, 'axis', 0);
  const zeros = zerosLike(c, c.input(0));
  return [addAt(c.builder, 'ScatterElements', zeros, c.input(1), c.gradient(0), { axis }), null];
};

const gatherNdInfer: Infer = (node, inputs) => {
  const data = required(node, inputs, 0);
  const indices = required(node, inputs, 1);
  const depth = indices.shape?.at(-1);
  const batch = intAttribute(node, 'batch_dims', 0);
  if (data.shape === null || indices.shape === null || typeof depth !== 'number') return [typeOf(data.dtype, null)];
  return [typeOf(data.dtype, [...indices.shape.slice(0, -1), ...data.shape.slice(batch + depth)])];
};

const gatherNdVjp: Vjp = (c) => {
  const batch = intAttribute(c.node, 'batch_dims', 0);
  if (batch !== 0) {
    const pick = (places: string) => c.builder.op('GatherND', [places, c.input(1)], { batch_dims: batch });
    return [scatterBack(c, pick), null];
  }
  return [addAt(c.builder, 'ScatterND', zerosLike(c, c.input(0)), c.input(1), c.gradient(0)), null];
};

const sliceInfer: Infer = (node, inputs) => {
  const data = required(node, inputs, 0);
  if (data.shape === null) return [typeOf(data.dtype, null)];
  const [starts, ends] = [required(node, inputs, 1).value, required(node, inputs, 2).value];
  const axes = slicedAxes(node, inputs, data.shape.length);
  const steps = inputs[4] === undefined || inputs[4] === null ? (axes?.map(() => 1) ?? null) : knownNumbers(inputs[4]);
  if (axes === null)
    return [
      typeOf(
        data.dtype,
        data.shape.map(() => unknownDim()),
      ),
    ];
  const shape = data.shape.map((dim, axis): Dim => {
    const i = axes.indexOf(axis);
    if (i < 0) return dim;
    const step = steps?.[i];
    if (starts === null || ends === null || step === undefined) return unknownDim();
    return slicedDim(dim, starts[i]!, ends[i]!, step) ?? unknownDim();
  });
  return [typeOf(data.dtype, shape, steps === null ? null : slicedValue(data, starts, ends, steps))];
};

function slicedAxes(node: Node, inputs: (TensorType | null)[], rank: number): number[] | null {
  const given = inputs[3] ?? null;
  if (given !== null) return knownNumbers(given)?.map((axis) => normalAxis(node, axis, rank)) ?? null;
  const count = required(node, inputs, 1).shape?.[0];
  return typeof count === 'number' ? Array.from({ length: count }, (_, i) => i) : null;
}

/** Size of start:end of a dimension with step 1 (symbolic) or any step (numbers), null where not provable. */
function slicedDim(dim: Dim, start: Dim, end: Dim, step: number): Dim | null {
  if (typeof dim === 'number' && typeof start === 'number' && typeof end === 'number') {
    const clamp = (at: number, low: number, high: number) => Math.min(Math.max(at < 0 ? at + dim : at, low), high);
    const [from, to] =
      step > 0 ? [clamp(start, 0, dim), clamp(end, 0, dim)] : [clamp(start, 0, dim - 1), clamp(end, -1, dim - 1)];
    return Math.max(0, Math.ceil((to - from) / step));
  }
  if (step !== 1) return null;
  const toEnd = typeof end === 'number' && end > 2 ** 30;
  if (start === 0 && toEnd) return dim;
  // The last n of n: T5 cuts position biases to the tokens that are not cached.
  if (toEnd && typeof start === 'object' && addDims(dim, start) === 0) return dim;
  // A buffer of fixed size cut to a symbolic length: exporters keep masks and positions for the longest input.
  if (start === 0 && typeof end === 'object') return typeof dim === 'number' || sameDim(dim, end) ? end : null;
  if (typeof dim === 'number' && typeof start === 'object' && typeof end === 'object') return subtractDims(end, start);
  if (start === 0 && end === -1) return subtractDims(dim, 1);
  if (!toEnd) return null;
  if (start === -1) return 1;
  return start === 1 || typeof start === 'object' ? subtractDims(dim, start) : null;
}

function slicedValue(data: TensorType, starts: Dim[] | null, ends: Dim[] | null, steps: number[]): Dim[] | null {
  if (data.value === null || data.shape?.length !== 1 || starts?.length !== 1 || ends?.length !== 1) return null;
  const [start, end] = [starts[0]!, ends[0]!];
  if (typeof start !== 'number' || typeof end !== 'number' || steps[0] !== 1) return null;
  return data.value.slice(start, end >= 2 ** 30 ? undefined : end);
}

/** Step 1 along axes of known size: Pad. Otherwise positions are sliced the same way and dY is scattered to them. */
const sliceVjp: Vjp = (c) => {
  const rest = c.node.inputs.slice(1).map(() => null);
  const pads = constantPads(c);
  if (pads !== null) return [c.builder.op('Pad', [c.gradient(0), c.builder.constant('int64', pads)]), ...rest];
  return [scatterBack(c, (places) => c.builder.op('Slice', [places, ...c.node.inputs.slice(1)])), ...rest];
};

function constantPads(c: VjpContext): number[] | null {
  const b = c.builder;
  const shape = b.shape(c.input(0));
  const types = c.node.inputs.map((name) => (name === '' ? null : b.type(name)));
  const axes = slicedAxes(c.node, types, shape.length);
  const [starts, ends] = [knownNumbers(types[1]), knownNumbers(types[2])];
  const steps = types[4] === undefined || types[4] === null ? [] : knownNumbers(types[4]);
  if (axes === null || starts === null || ends === null || steps?.every((one) => one === 1) !== true) return null;
  const pads = Array.from({ length: 2 * shape.length }, () => 0);
  for (const [i, axis] of axes.entries()) {
    const dim = shape[axis]!;
    const whole = starts[i] === 0 && ends[i]! > 2 ** 30;
    if (whole) continue;
    if (typeof dim !== 'number') return null;
    const at = (place: number) => Math.min(Math.max(place < 0 ? place + dim : place, 0), dim);
    pads[axis] = at(starts[i]!);
    pads[shape.length + axis] = dim - at(ends[i]!);
  }
  return pads;
}

const topKInfer: Infer = (node, inputs) => {
  const data = required(node, inputs, 0);
  const k = inputs[1]?.value?.[0] ?? unknownDim();
  const axis = data.shape === null ? 0 : normalAxis(node, intAttribute(node, 'axis', -1), data.shape.length);
  const shape = data.shape?.map((dim, i) => (i === axis ? k : dim)) ?? null;
  return [typeOf(data.dtype, shape), typeOf('int64', shape)];
};

export const indexingOps: Op[] = [
  { name: 'Gather', opsets: [11, 13], infer: gatherInfer, vjp: gatherVjp },
  { name: 'GatherElements', opsets: [11, 13], infer: gatherElementsInfer, vjp: gatherElementsVjp },
  { name: 'GatherND', opsets: [11, 12, 13], infer: gatherNdInfer, vjp: gatherNdVjp },
  { name: 'Slice', opsets: [11, 13], infer: sliceInfer, vjp: sliceVjp },
  {
    name: 'TopK',
    opsets: [11, 24],
    infer: topKInfer,
    vjp: (c) => {
      const axis = intAttribute(c.node, 'axis', -1);
      return [c.builder.op('ScatterElements', [zerosLike(c, c.input(0)), c.output(1), c.gradient(0)], { axis }), null];
    },
  },
];
