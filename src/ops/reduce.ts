/** Reductions. A gradient is stretched back over the reduced axes. Axes are an input (opset 18 form) after canonicalization. */
import { type Dim, productOf, unknownDim } from '../onnx/dim.ts';
import { intAttribute, type Node } from '../onnx/ir.ts';
import { type TensorType, typeOf } from '../onnx/types.ts';
import { axesAttribute, flatSoftmax } from './older.ts';
import type { Infer, Op, Vjp, VjpContext } from './op.ts';
import { factorsOf, productOfOthers } from './products.ts';
import { castLike, knownNumbers, likeFirst, normalAxis, required } from './shared.ts';

/** Axes of a reduction counted from the front; null when they are not known before the run. */
function reducedAxes(node: Node, inputs: (TensorType | null)[], rank: number): number[] | null {
  const given = inputs[1];
  if (given === null || given === undefined || given.shape?.[0] === 0) {
    return intAttribute(node, 'noop_with_empty_axes', 0) === 1 ? [] : Array.from({ length: rank }, (_, i) => i);
  }
  return knownNumbers(given)?.map((axis) => normalAxis(node, axis, rank)) ?? null;
}

function reducedShape(node: Node, inputs: (TensorType | null)[]): Dim[] | null {
  const { shape } = required(node, inputs, 0);
  if (shape === null) return null;
  const axes = reducedAxes(node, inputs, shape.length);
  const keep = intAttribute(node, 'keepdims', 1) === 1;
  if (axes === null) return keep ? shape.map(() => unknownDim()) : null;
  if (keep) return shape.map((dim, i) => (axes.includes(i) ? 1 : dim));
  return shape.filter((_, i) => !axes.includes(i));
}

const reduceInfer: Infer = (node, inputs) => [typeOf(required(node, inputs, 0).dtype, reducedShape(node, inputs))];

/** Product over known elements: the number of elements of a known shape. */
const prodInfer: Infer = (node, inputs) => {
  const first = required(node, inputs, 0);
  const shape = reducedShape(node, inputs);
  const whole = shape !== null && (shape.length === 0 || (shape.length === 1 && shape[0] === 1));
  return [typeOf(first.dtype, shape, whole && first.value !== null ? [productOf(first.value)] : null)];
};

/** A value of the reduced shape with its dropped axes put back as ones. */
function withKeptAxes(c: VjpContext, value: string): string {
  if (intAttribute(c.node, 'keepdims', 1) === 1) return value;
  const rank = c.builder.shape(c.input(0)).length;
  const inputs = c.node.inputs.map((name) => (name === '' ? null : c.builder.type(name)));
  const axes = reducedAxes(c.node, inputs, rank);
  const axesInput = axes === null ? c.input(1) : c.builder.constant('int64', axes);
  return axes?.length === 0 ? value : c.builder.op('Unsqueeze', [value, axesInput]);
}

function stretched(c: VjpContext, value: string): string {
  return c.builder.op('Expand', [withKeptAxes(c, value), c.builder.op('Shape', [c.input(0)])]);
}

/** Elements per result, of the input's element type. */
function reducedCount(c: VjpContext): string {
  const b = c.builder;
  const size = (value: string) => castLike(b, b.op('Size', [value]), c.input(0));
  const shape = b.shape(c.input(0));
  const inputs = c.node.inputs.map((name) => (name === '' ? null : b.type(name)));
  const axes = reducedAxes(c.node, inputs, shape.length);
  const count = axes === null ? null : productOf(axes.map((axis) => shape[axis]!));
  if (typeof count === 'number') return castLike(b, b.constant('float32', count), c.input(0));
  return b.op('Div', [size(c.input(0)), size(c.output(0))]);
}

const sumVjp: Vjp = (c) => [stretched(c, c.gradient(0)), null];
const meanVjp: Vjp = (c) => [stretched(c, c.builder.op('Div', [c.gradient(0), reducedCount(c)])), null];

/** Equal shares among the elements that reach the extremum. */
const extremumVjp: Vjp = (c) => {
  const b = c.builder;
  const hits = castLike(b, b.op('Equal', [c.input(0), withKeptAxes(c, c.output(0))]), c.input(0));
  const axes = c.node.inputs[1] ?? '';
  const count = b.op('ReduceSum', axes === '' ? [hits] : [hits, axes], { keepdims: 1 });
  return [b.op('Mul', [hits, b.op('Div', [withKeptAxes(c, c.gradient(0)), count])]), null];
};

/** Each factor's slope is the product of the others. */
const productVjp: Vjp = (c) => {
  const b = c.builder;
  const factors = factorsOf(b, c.input(0));
  const reduce = (op: string, value: string) => b.op(op, [value, ...c.node.inputs.slice(1)], reducing(c.node));
  const slopes = productOfOthers(b, factors, reduce('ReduceProd', factors.rest), reduce('ReduceSum', factors.zero));
  return [b.op('Mul', [withKeptAxes(c, c.gradient(0)), slopes]), null];
};

/** Attributes of a reduction over the node's axes that keeps them. */
function reducing(node: Node): Record<string, number> {
  return { keepdims: 1, noop_with_empty_axes: intAttribute(node, 'noop_with_empty_axes', 0) };
}

/** Positions along one axis. */
const positionInfer: Infer = (node, inputs) => {
  const { shape } = required(node, inputs, 0);
  const axis = shape === null ? 0 : normalAxis(node, intAttribute(node, 'axis', 0), shape.length);
  const keep = intAttribute(node, 'keepdims', 1) === 1;
  const reduced = shape?.flatMap((dim, i): Dim[] => (i === axis ? (keep ? [1] : []) : [dim])) ?? null;
  return [typeOf('int64', reduced)];
};

const unknownPositions: Infer = () => [typeOf('int64', [unknownDim(), 3])];

export const reduceOps: Op[] = [
  { name: 'ReduceSum', opsets: [11, 13], older: [axesAttribute(13)], infer: reduceInfer, vjp: sumVjp },
  { name: 'ReduceMean', opsets: [11, 13, 18], older: [axesAttribute(18)], infer: reduceInfer, vjp: meanVjp },
  { name: 'ReduceMax', opsets: [11, 12, 13, 18, 20], older: [axesAttribute(18)], infer: reduceInfer, vjp: extremumVjp },
  { name: 'ReduceMin', opsets: [11, 12, 13, 18, 20], older: [axesAttribute(18)], infer: reduceInfer, vjp: extremumVjp },
  {
    name: 'ReduceSumSquare',
    opsets: [11, 13, 18],
    older: [axesAttribute(18)],
    infer: reduceInfer,
    vjp: (c) => {
      const two = castLike(c.builder, c.builder.constant('float32', 2), c.input(0));
      return [c.builder.op('Mul', [c.builder.op('Mul', [c.input(0), two]), withKeptAxes(c, c.gradient(0))]), null];
    },
  },
  {
    name: 'ReduceL2',
    opsets: [11, 13, 18],
    older: [axesAttribute(18)],
    infer: reduceInfer,
    vjp: (c) => {
      const b = c.builder;
      // The norm of zeros has no derivative; 0 is a subgradient, and PyTorch's choice.
      const zero = castLike(b, b.constant('float32', 0), c.input(0));
      const share = b.op('Div', [c.gradient(0), c.output(0)]);
      const safe = b.op('Where', [b.op('Equal', [c.output(0), zero]), zero, share]);
      return [b.op('Mul', [c.input(0), withKeptAxes(c, safe)]), null];
    },
  },
  {
    name: 'ReduceL1',
    opsets: [11, 13, 18],
    older: [axesAttribute(18)],
    infer: reduceInfer,
    vjp: (c) => [c.builder.op('Mul', [c.builder.op('Sign', [c.input(0)]), withKeptAxes(c, c.gradient(0))]), null],
  },
  {
    name: 'ReduceLogSum',
    opsets: [11, 13, 18],
    older: [axesAttribute(18)],
    infer: reduceInfer,
    // d log Σx = dx / Σx with Σx = e^y
    vjp: (c) => {
      const share = c.builder.op('Div', [c.gradient(0), c.builder.op('Exp', [c.output(0)])]);
      return [stretched(c, share), null];
    },
  },
  {
    name: 'ReduceLogSumExp',
    opsets: [11, 13, 18],
    older: [axesAttribute(18)],
    infer: reduceInfer,
    vjp: (c) => {
      const b = c.builder;
      const p = b.op('Exp', [b.op('Sub', [c.input(0), withKeptAxes(c, c.output(0))])]);
      return [b.op('Mul', [p, withKeptAxes(c, c.gradient(0))]), null];
    },
  },
  {
    name: 'ReduceProd',
    opsets: [11, 13, 18],
    older: [axesAttribute(18)],
    infer: prodInfer,
    vjp: productVjp,
  },
  { name: 'ArgMax', opsets: [11, 12, 13], infer: positionInfer, vjp: { none: 'yields positions' } },
  { name: 'Hardmax', opsets: [11, 13], older: [flatSoftmax], infer: likeFirst, vjp: { none: 'is piecewise constant' } },
  { name: 'NonMaxSuppression', opsets: [11], infer: unknownPositions, vjp: { none: 'yields positions' } },
  { name: 'ArgMin', opsets: [11, 12, 13], infer: positionInfer, vjp: { none: 'yields positions' } },
];
