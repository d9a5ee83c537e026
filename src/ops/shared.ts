/** Inference helpers that several families share. */
import { PtunedError } from '../errors.ts';
import type { GraphBuilder } from '../onnx/builder.ts';
import { type Dim, sameShape, unknownDim } from '../onnx/dim.ts';
import { type DType, dtypeCode } from '../onnx/dtype.ts';
import { describeNode, type Node } from '../onnx/ir.ts';
import { broadcastShapes, type TensorType, typeOf } from '../onnx/types.ts';
import type { Infer } from './op.ts';

/** Type of a required input. @throws PtunedError damaged_model when it is left out */
export function required(node: Node, inputs: (TensorType | null)[], i: number): TensorType {
  const type = inputs[i];
  if (type === null || type === undefined) {
    throw new PtunedError('damaged_model', `${describeNode(node)} lacks its input ${i}.`);
  }
  return type;
}

/** No exporter writes more dimensions, and no kernel takes them. */
const mostDimensions = 64;

/** A shape of which only the number of dimensions is known, null where not even that is. */
export function unknownShape(node: Node, rank: Dim | undefined): Dim[] | null {
  if (typeof rank !== 'number') return null;
  if (rank > mostDimensions)
    throw new PtunedError('damaged_model', `${describeNode(node)} yields a value of ${rank} dimensions.`);
  return Array.from({ length: rank }, () => unknownDim());
}

/** Output like input 0. */
export const likeFirst: Infer = (node, inputs) => {
  const { dtype, shape } = required(node, inputs, 0);
  return [typeOf(dtype, shape)];
};

/** Output of the broadcast shape of all inputs; `dtype` overrides that of input 0. */
export function broadcasting(dtype?: DType): Infer {
  return (node, inputs) => {
    const first = required(node, inputs, 0);
    let shape: Dim[] | null = first.shape;
    for (const type of inputs.slice(1)) if (type !== null) shape = broadcastShapes(shape, type.shape, unknownDim);
    return [typeOf(dtype ?? first.dtype, shape)];
  };
}

/**
 * Known elements of a broadcast binary op: equal shapes, or one of the two a single element.
 * `compute` yields null where an element cannot be known.
 */
export function knownElements(a: TensorType, b: TensorType, compute: (x: Dim, y: Dim) => Dim | null): Dim[] | null {
  const left = a.value;
  const right = b.value;
  if (left === null || right === null) return null;
  if (left.length !== 1 && right.length !== 1 && !(a.shape && b.shape && sameShape(a.shape, b.shape))) return null;
  const length = left.length === 1 ? right.length : left.length;
  const result: Dim[] = [];
  for (let i = 0; i < length; i++) {
    const element = compute(left[left.length === 1 ? 0 : i]!, right[right.length === 1 ? 0 : i]!);
    if (element === null) return null;
    result.push(element);
  }
  return result;
}

/** An axis counted from the front. @throws PtunedError damaged_model when out of range */
export function normalAxis(node: Node, axis: number, rank: number): number {
  const normal = axis < 0 ? axis + rank : axis;
  if (normal < 0 || normal >= Math.max(rank, 1)) {
    throw new PtunedError('damaged_model', `${describeNode(node)} has axis ${axis} on a tensor of rank ${rank}.`);
  }
  return normal;
}

/** Numbers of a type's known elements, null where one is unknown or symbolic. */
export function knownNumbers(type: TensorType | null | undefined): number[] | null {
  const value = type?.value ?? null;
  if (value === null) return null;
  return value.every((one) => typeof one === 'number') ? (value as number[]) : null;
}

/** The failure of a rule that does not cover a variant of its op. */
export function unsupported(node: Node, what: string): PtunedError {
  return new PtunedError('unsupported_op', `${describeNode(node)} ${what}.`, {
    details: { op: node.op, domain: node.domain, node: node.name },
  });
}

/** `value` in another element type; the value itself where it has it. */
export function castTo(builder: GraphBuilder, value: string, dtype: DType): string {
  return builder.type(value).dtype === dtype ? value : builder.op('Cast', [value], { to: dtypeCode(dtype) });
}

/**
 * {@link castTo} the element type of `like`. CastLike itself is a function to the runtime, which writes it out when a
 * session opens and then checks the whole graph again, for each one: seconds for an LM of thirty layers.
 */
export function castLike(builder: GraphBuilder, value: string, like: string): string {
  return castTo(builder, value, builder.type(like).dtype);
}
