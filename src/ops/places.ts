/** Gradients of ops that move or copy elements: shapes of other values, and scattering back to where elements came from. */
import type { GraphBuilder } from '../onnx/builder.ts';
import { isFloat } from '../onnx/dtype.ts';
import type { VjpContext } from './op.ts';
import { castLike, castTo } from './shared.ts';

/** Zeros of the shape and element type of the gradient of `like`. */
export function zerosOf(builder: GraphBuilder, like: string): string {
  const zeros = builder.op('Expand', [builder.constant('float32', 0), builder.op('Shape', [like])]);
  // The gradient of a rounded value is a float.
  return isFloat(builder.type(like).dtype) ? castLike(builder, zeros, like) : zeros;
}

export function zerosLike(c: VjpContext, like: string): string {
  return zerosOf(c.builder, like);
}

/**
 * `value` in the shape of `like`. With at most one symbolic dimension the target is a constant with -1, else the run
 * time's shape is asked: the forward op's own shape input may hold 0 and -1, which mean something else here. An empty past
 * has a dimension of 0.
 */
export function reshapeLike(c: VjpContext, value: string, like: string): string {
  const { builder } = c;
  const shape = builder.shape(like);
  const symbolic = shape.filter((dim) => typeof dim !== 'number').length;
  const constant = symbolic <= 1 && !shape.includes(0);
  if (!constant) return builder.op('Reshape', [value, builder.op('Shape', [like])], { allowzero: 1 });
  const target = shape.map((dim) => (typeof dim === 'number' ? dim : -1));
  return builder.op('Reshape', [value, builder.constant('int64', target)]);
}

/**
 * `data` with the updates added at the indices. Halves are added up in float32: the runtime has no such kernel for them on
 * a CPU, and many small parts of one sum would be lost.
 */
export function addAt(
  builder: GraphBuilder,
  op: 'ScatterND' | 'ScatterElements',
  data: string,
  indices: string,
  updates: string,
  attributes: Record<string, number> = {},
): string {
  const { dtype } = builder.type(data);
  const wide = dtype === 'float16' || dtype === 'bfloat16' ? 'float32' : dtype;
  const [into, added] = [data, updates].map((value) => castTo(builder, value, wide)) as [string, string];
  return castTo(builder, builder.op(op, [into, indices, added], { ...attributes, reduction: 'add' }), dtype);
}

/**
 * Gradient of input 0 of an op that copies elements of it, each any number of times: `pick` does to the elements' places
 * what the op did to the elements, and dY is added up at the places.
 */
export function scatterBack(c: VjpContext, pick: (places: string) => string): string {
  const b = c.builder;
  const flat = b.constant('int64', [-1]);
  const range = b.op('Range', [b.constant('int64', 0), b.op('Size', [c.input(0)]), b.constant('int64', 1)]);
  const places = b.op('Reshape', [range, b.op('Shape', [c.input(0)])]);
  const picked = b.op('Reshape', [pick(places), flat]);
  const zeros = b.op('Reshape', [zerosLike(c, c.input(0)), flat]);
  const sums = addAt(b, 'ScatterElements', zeros, picked, b.op('Reshape', [c.gradient(0), flat]), { axis: 0 });
  return reshapeLike(c, sums, c.input(0));
}
