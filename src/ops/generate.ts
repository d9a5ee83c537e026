/** Ops that make values from shapes and constants: no gradient passes through them. */
import { type Dim, divideDims, productOf, subtractDims, unknownDim } from '../onnx/dim.ts';
import { dtypeName } from '../onnx/dtype.ts';
import { intAttribute, type Node } from '../onnx/ir.ts';
import { numbersOf, type TensorType, typeOf, typeOfTensor } from '../onnx/types.ts';
import type { Infer, Op, Vjp } from './op.ts';
import { castLike, required, unknownShape } from './shared.ts';

const none = { none: 'depends on shapes only' };

const shapeInfer: Infer = (node, inputs) => {
  const { shape } = required(node, inputs, 0);
  if (shape === null) return [typeOf('int64', [unknownDim()])];
  const end = node.attributes.has('end') ? intAttribute(node, 'end', 0) : undefined;
  const picked = shape.slice(intAttribute(node, 'start', 0), end);
  return [typeOf('int64', [picked.length], picked)];
};

const sizeInfer: Infer = (node, inputs) => {
  const { shape } = required(node, inputs, 0);
  return [typeOf('int64', [], shape === null ? null : [productOf(shape)])];
};

const rangeInfer: Infer = (node, inputs) => {
  const [start, limit, delta] = [0, 1, 2].map((i) => required(node, inputs, i));
  const [from, to, step] = [start!.value?.[0], limit!.value?.[0], delta!.value?.[0]];
  const length = from === undefined || to === undefined || step === undefined ? null : rangeLength(from, to, step);
  const numeric = typeof length === 'number' && typeof from === 'number' && typeof step === 'number' && length <= 64;
  const value = numeric ? Array.from({ length }, (_, i) => from + i * step) : null;
  return [typeOf(start!.dtype, [length ?? unknownDim()], value)];
};

function rangeLength(from: Dim, to: Dim, step: Dim): Dim | null {
  if (typeof from === 'number' && typeof to === 'number' && typeof step === 'number')
    return step === 0 ? null : Math.max(0, Math.ceil((to - from) / step));
  return divideDims(subtractDims(to, from), step);
}

const constantOfShapeInfer: Infer = (node, inputs) => {
  const wanted = required(node, inputs, 0);
  const shape = wanted.value ?? unknownShape(node, wanted.shape?.[0]);
  const fill = node.attributes.get('value');
  const tensor = fill?.kind === 'tensor' ? fill.value : null;
  const element = tensor === null ? 0 : (numbersOf(tensor)?.[0] ?? null);
  const count = shape === null ? null : productOf(shape);
  const known = typeof count === 'number' && count <= 64 && element !== null;
  return [typeOf(tensor?.dtype ?? 'float32', shape, known ? Array.from({ length: count }, () => element) : null)];
};

const constantInfer: Infer = (node) => {
  const value = node.attributes.get('value');
  if (value?.kind === 'tensor') return [typeOfTensor(value.value)];
  const [first] = node.attributes;
  const attribute = first?.[1];
  switch (attribute?.kind) {
    case 'int':
      return [typeOf('int64', [], [attribute.value])];
    case 'float':
      return [typeOf('float32', [], [attribute.value])];
    case 'ints':
      return [typeOf('int64', [attribute.value.length], attribute.value)];
    case 'floats':
      return [typeOf('float32', [attribute.value.length], attribute.value)];
    default:
      return [typeOf('string', null)];
  }
};

const oneHotInfer: Infer = (node, inputs) => {
  const indices = required(node, inputs, 0);
  const depth = inputs[1]?.value?.[0] ?? unknownDim();
  const axis = intAttribute(node, 'axis', -1);
  const dtype = required(node, inputs, 2).dtype;
  if (indices.shape === null) return [typeOf(dtype, null)];
  const at = axis < 0 ? axis + indices.shape.length + 1 : axis;
  return [typeOf(dtype, [...indices.shape.slice(0, at), depth, ...indices.shape.slice(at)])];
};

/** Each element is one of the two values [off, on]; which, the same op tells with 0 and 1 for them. */
const oneHotVjp: Vjp = (c) => {
  const b = c.builder;
  const choice = castLike(b, b.constant('float32', [0, 1]), c.input(2));
  const hot = b.op('OneHot', [c.input(0), c.input(1), choice], { axis: intAttribute(c.node, 'axis', -1) });
  const all = b.constant('int64', [-1]);
  const sum = (value: string) => b.op('Reshape', [b.op('ReduceSum', [value], { keepdims: 0 }), all]);
  const on = sum(b.op('Mul', [c.gradient(0), hot]));
  return [null, null, b.op('Concat', [b.op('Sub', [sum(c.gradient(0)), on]), on], { axis: 0 })];
};

/** Element i is start + i·delta; how many there are is a whole number, which passes nothing on. */
const rangeVjp: Vjp = (c) => {
  const b = c.builder;
  const length = b.op('Size', [c.gradient(0)]);
  const count = b.op('Range', [b.constant('int64', 0), length, b.constant('int64', 1)]);
  const steps = b.op('Mul', [c.gradient(0), castLike(b, count, c.gradient(0))]);
  const [start, delta] = [c.gradient(0), steps].map((value) => b.op('ReduceSum', [value], { keepdims: 0 }));
  return [start!, null, delta!];
};

function likeWithDtype(node: Node, inputs: (TensorType | null)[]): TensorType[] {
  const like = required(node, inputs, 0);
  const code = intAttribute(node, 'dtype', 0);
  return [typeOf(code === 0 ? like.dtype : dtypeName(code, node.name), like.shape)];
}

const nonZeroInfer: Infer = (node, inputs) => {
  const { shape } = required(node, inputs, 0);
  const rows: Dim = shape?.length ?? unknownDim();
  return [typeOf('int64', [rows, unknownDim()])];
};

/** [1, heads, queries, keys] from a table [buckets, heads] that the file has, and two lengths. */
const relativeBiasInfer: Infer = (node, inputs) => {
  const [table, queries, keys] = [0, 1, 2].map((i) => required(node, inputs, i));
  const length = (of: TensorType) => of.value?.[0] ?? unknownDim();
  return [typeOf(table!.dtype, [1, table!.shape?.[1] ?? unknownDim(), length(queries!), length(keys!)])];
};

/** What no shape computation needs. */
const unknownFloats: Infer = (node) => node.outputs.map(() => typeOf('float32', null));

export const generateOps: Op[] = [
  { name: 'Constant', opsets: [11, 12, 13, 19, 21, 23, 24, 25], infer: constantInfer, vjp: none },
  { name: 'Shape', opsets: [11, 13, 15, 19, 21, 23, 24, 25], infer: shapeInfer, vjp: none },
  { name: 'Size', opsets: [11, 13, 19, 21, 23, 24, 25], infer: sizeInfer, vjp: none },
  { name: 'Range', opsets: [11], infer: rangeInfer, vjp: rangeVjp },
  { name: 'ConstantOfShape', opsets: [11, 20, 21, 23, 24, 25], infer: constantOfShapeInfer, vjp: none },
  { name: 'EyeLike', opsets: [11, 22], infer: likeWithDtype, vjp: none },
  { name: 'OneHot', opsets: [11], infer: oneHotInfer, vjp: oneHotVjp },
  ...['BlackmanWindow', 'HammingWindow', 'HannWindow', 'MelWeightMatrix'].map(
    (name): Op => ({ name, opsets: [17], infer: unknownFloats, vjp: none }),
  ),
  ...['RandomNormal', 'RandomUniform'].map((name): Op => ({ name, opsets: [11, 22], infer: unknownFloats, vjp: none })),
  { name: 'RelativePositionBias', domain: 'com.microsoft', opsets: [1], infer: relativeBiasInfer, vjp: none },
  { name: 'NonZero', opsets: [11, 13], infer: nonZeroInfer, vjp: { none: 'yields positions' } },
];
