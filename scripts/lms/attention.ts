/** Attention as torch.nn.functional.scaled_dot_product_attention is exported, and the masks in front of it. */
import { type Author, expand, shape, size } from './author.ts';

/** [batch, sequence, heads · width] as [batch, sequence, heads, width]. */
export function splitHeads(a: Author, value: string, width: number): string {
  const dims = shape(a, [size(a, value, 0), size(a, value, 1), -1, width]);
  return a.builder.op('Reshape', [value, dims], { allowzero: 0 });
}

/** [batch, heads, sequence, width] as [batch, sequence, hidden]. */
export function mergeHeads(a: Author, value: string): string {
  const rows = a.builder.op('Transpose', [value], { perm: [0, 2, 1, 3] });
  return a.builder.op('Reshape', [rows, shape(a, [size(a, rows, 0), size(a, rows, 1), -1])], { allowzero: 0 });
}

/**
 * softmax(√s·q (√s·kᵀ) + mask) v.
 * @param query [batch, heads, sequence, width]
 * @param transposedKey [batch, heads, width, sequence]
 */
export function attend(a: Author, query: string, transposedKey: string, value: string, mask: string): string {
  const b = a.builder;
  const last = b.op('Slice', [b.op('Shape', [query]), a.int([-1]), a.int([2 ** 63])]);
  const to = a.precision === 'float32' ? 1 : 10;
  const scale = b.op('Div', [a.float([1]), b.op('Sqrt', [b.op('Cast', [last], { to })])]);
  const scaled = [query, transposedKey].map((one) => b.op('Mul', [one, b.op('Sqrt', [scale])]));
  const boolean = b.type(mask).dtype === 'bool';
  const added = boolean ? b.op('Where', [mask, a.float([0]), a.float([-Infinity])]) : mask;
  const weights = b.op('Softmax', [b.op('Add', [b.op('MatMul', scaled), added])], { axis: -1 });
  // A row that sees nothing would be NaN.
  const kept = boolean ? b.op('Where', [b.op('IsNaN', [weights]), a.float([0]), weights]) : weights;
  return b.op('MatMul', [kept, value]);
}

/**
 * Whether token i may see j: j ≤ i and not padding; bool [batch, 1, sequence, sequence], with a cache [batch, 1, sequence,
 * past + sequence]. Tokens count on from the cache.
 */
export function causalMask(a: Author, mask: string, ids: string): string {
  const b = a.builder;
  const [rows, length] = [size(a, mask, 0), size(a, mask, 1)];
  const own = a.cache ? size(a, ids, 1) : length;
  const range = (from: string, to: string, axes: number[]) => {
    const numbers = b.op('Range', [from, to, a.int(1)]);
    return axes.reduce((value, axis) => b.op('Unsqueeze', [value, a.int([axis])]), numbers);
  };
  const key = range(a.int(0), length, [0, 1, 2]);
  const first = a.cache ? b.op('Sub', [length, own]) : a.int(0);
  const past = b.op('LessOrEqual', [key, range(first, length, [0, 1, 3])]);
  const flat = b.op('Flatten', [b.op('Cast', [mask], { to: 9 })], { axis: 2 });
  const place = b.op('Add', [key, b.op('Mul', [range(a.int(0), rows, [1, 2, 3]), length])]);
  const words = b.op('Reshape', [flat, a.int([-1])], { allowzero: 0 });
  const real = b.op('Gather', [words, place], { axis: 0 });
  return expand(a, b.op('And', [past, real]), [rows, -1, own, length]);
}

/** The part of a causal mask that attention takes: as far as there are keys, which is all of it. */
export function maskFor(a: Author, mask: string, key: string): string {
  const length = a.builder.op('Unsqueeze', [size(a, key, 2), a.int([0])]);
  return a.builder.op('Slice', [mask, a.int([0]), length, a.int([3]), a.int([1])]);
}

/** 0 where a position may be seen and the smallest number where not; [batch, 1, sequence, sequence]. */
export function paddingMask(a: Author, mask: string): string {
  const b = a.builder;
  const [rows, length] = [size(a, mask, 0), size(a, mask, 1)];
  const wide = b.op('Unsqueeze', [b.op('Unsqueeze', [mask, a.int([1])]), a.int([2])]);
  const to = a.precision === 'float32' ? 1 : 10;
  const seen = b.op('Cast', [expand(a, wide, [rows, 1, length, length])], { to });
  const hidden = b.op('Sub', [a.float(1), seen]);
  const smallest = a.float(a.precision === 'float32' ? -3.4028234663852886e38 : -65504);
  return b.op('Where', [b.op('Cast', [hidden], { to: 9 }), smallest, hidden]);
}
