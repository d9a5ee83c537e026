/** Scaled dot-product attention in primitives: what all its fused forms come down to. */
import { count, knownDim, lengthOf } from './heads.ts';
import type { LowerContext } from './lower.ts';

export interface AttentionInputs {
  /** [B, N, S, D] */
  q: string;
  /** [B, M, T, D]; M divides N. */
  k: string;
  /** [B, M, T, E] */
  v: string;
  /** Added to the scores; broadcast to [B, N, S, T]. */
  biases: string[];
  /** Truth values: which keys a query may see; broadcast to [B, N, S, T]. */
  allowed: string[];
  /** 0: 1/√D. */
  scale: number;
  /** 0: none. */
  softcap: number;
  /** A query that may see no key: 'even' attends to all of them alike, 'zero' to none. Default even. */
  blind?: 'even' | 'zero';
  /** Logit of a key that has no value, [N] or []: the attention to it is lost. */
  sink?: string | null;
}

export interface Attended {
  /** [B, N, S, E] */
  y: string;
  /** q·kᵀ·scale, then with the cap, then with biases and mask, then after softmax. */
  stages: [product: string, capped: string, masked: string, weights: string];
}

const lowest = -3.4028234663852886e38;

/** softmax(cap(q·kᵀ·scale) + bias)·v. */
export function attend(c: LowerContext, inputs: AttentionInputs): Attended {
  const { q } = inputs;
  const groups = knownDim(c, q, 1, 'the number of heads') / knownDim(c, inputs.k, 1, 'the number of key heads');
  const [k, v] = [repeatHeads(c, inputs.k, groups), repeatHeads(c, inputs.v, groups)];
  const scale = inputs.scale || 1 / Math.sqrt(knownDim(c, q, -1, 'the head size'));
  const turned = c.op('Transpose', [k], { perm: [0, 1, 3, 2] });
  const product = c.op('Mul', [c.op('MatMul', [q, turned]), c.scalar(scale, q)]);
  const capped = inputs.softcap > 0 ? cap(c, product, inputs.softcap) : product;
  const masked = mask(c, capped, inputs);
  const weights = softmax(c, masked, inputs);
  return { y: c.op('MatMul', [weights, v]), stages: [product, capped, masked, weights] };
}

function cap(c: LowerContext, scores: string, limit: number): string {
  const most = c.scalar(limit, scores);
  return c.op('Mul', [c.op('Tanh', [c.op('Div', [scores, most])]), most]);
}

function mask(c: LowerContext, scores: string, { biases, allowed, blind }: AttentionInputs): string {
  const biased = biases.reduce((sum, bias) => c.op('Add', [sum, bias]), scores);
  if (allowed.length === 0) return biased;
  const seen = allowed.reduce((all, one) => c.op('And', [all, one]));
  return c.op('Where', [seen, biased, c.scalar(blind === 'zero' ? Number.NEGATIVE_INFINITY : lowest, scores)]);
}

/** Over the keys. A row of −∞ alone gives NaN: nothing, where that is asked for. */
function softmax(c: LowerContext, scores: string, inputs: AttentionInputs): string {
  const p = inputs.sink ? softmaxWithSink(c, scores, inputs.sink) : c.op('Softmax', [scores], { axis: -1 });
  const masked = inputs.biases.length + inputs.allowed.length > 0;
  if (inputs.blind !== 'zero' || !masked) return p;
  return c.op('Where', [c.op('IsNaN', [p]), c.scalar(0, p), p]);
}

function softmaxWithSink(c: LowerContext, scores: string, sink: string): string {
  const column = c.op('Reshape', [sink, c.ints([1, -1, 1, 1])]);
  const rows = c.op('Concat', [c.op('Shape', [scores], { start: 0, end: 3 }), c.ints([1])], { axis: 0 });
  const wide = c.op('Concat', [scores, c.op('Expand', [column, rows])], { axis: -1 });
  return c.op('Slice', [c.op('Softmax', [wide], { axis: -1 }), c.ints([0]), c.ints([-1]), c.ints([-1])]);
}

/** [B, M, T, D] to [B, M·groups, T, D], each head several times in a row. */
function repeatHeads(c: LowerContext, x: string, groups: number): string {
  if (groups === 1) return x;
  const stretched = c.op('Expand', [c.op('Unsqueeze', [x, c.ints([2])]), c.ints([1, 1, groups, 1, 1])]);
  const heads = knownDim(c, x, 1, 'the number of key heads') * groups;
  return c.op('Reshape', [stretched, c.ints([0, heads, -1, knownDim(c, x, -1, 'the head size')])]);
}

/**
 * [S, T]: keys up to the query's own place, which is `past` keys further on: a scalar, or [B, 1, 1, 1], which makes it
 * [B, 1, S, T]. A window hides keys that lie further back.
 */
export function causal(c: LowerContext, q: string, k: string, past: string | null, window = -1): string {
  const column = c.op('Unsqueeze', [count(c, lengthOf(c, q, 2)), c.ints([1])]);
  const rows = past === null ? column : c.op('Add', [column, past]);
  const columns = count(c, lengthOf(c, k, 2));
  const before = c.op('LessOrEqual', [columns, rows]);
  if (window <= 0) return before;
  const near = c.op('Greater', [columns, c.op('Sub', [rows, c.builder.constant('int64', window)])]);
  return c.op('And', [before, near]);
}

/** [B, 1, 1, T]: the first keys of each row, of which there are `lengths` [B], int64. */
export function firstKeys(c: LowerContext, k: string, lengths: string): string {
  return c.op('Less', [count(c, lengthOf(c, k, 2)), c.op('Unsqueeze', [lengths, c.ints([1, 2, 3])])]);
}

/** Keys or values behind those of the past, where there are any. */
export function withPast(c: LowerContext, past: string | null, x: string): string {
  return past === null ? x : c.op('Concat', [past, x], { axis: 2 });
}

export function pastLength(c: LowerContext, past: string | null): string | null {
  return past === null ? null : lengthOf(c, past, 2);
}
