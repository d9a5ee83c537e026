/** com.microsoft's Attention and MultiHeadAttention. */
import { multiplyDims, sameDim } from '../../onnx/dim.ts';
import { floatAttribute, intAttribute, intsAttribute } from '../../onnx/ir.ts';
import { unsupported } from '../../ops/shared.ts';
import { attend, causal, pastLength, withPast } from './attend.ts';
import { count, joinHeads, knownDim, lengthOf, splitHeads, wide } from './heads.ts';
import { type LowerContext, type LoweredOp, read } from './lower.ts';

/**
 * Padding as something to add to the scores: [B] counts of keys, [2B] such counts and after them the first key of each
 * row, [B, T] or [B, S, T] of zeros and ones.
 */
function paddingBias(c: LowerContext, mask: string, k: string): string {
  const filter = c.scalar(floatAttribute(c.node, 'mask_filter_value', -10000), k);
  return c.op('Where', [seenKeys(c, mask, k), c.scalar(0, k), filter]);
}

function seenKeys(c: LowerContext, mask: string, k: string): string {
  const rank = c.builder.shape(mask).length;
  if (rank === 1) return between(c, mask, k);
  if (rank > 3) throw unsupported(c.node, 'has a mask of rank 4; ranks 1 to 3 have a gradient');
  return c.op('Cast', [c.op('Unsqueeze', [mask, c.ints(rank === 2 ? [1, 2] : [1])])], { to: 9 });
}

/** Whether the mask has one or two numbers a row need not be known: without the second, rows start at key 0. */
function between(c: LowerContext, mask: string, k: string): string {
  const [size, batch] = [c.builder.shape(mask)[0]!, c.builder.shape(k)[0]!];
  const known = typeof size === 'number' && typeof batch === 'number';
  if (known && !sameDim(size, batch) && !sameDim(size, multiplyDims(2, batch)))
    throw unsupported(c.node, `has a mask [${size}] for ${batch} rows; [rows] and [2·rows] have a gradient`);
  const rows = c.op('Shape', [k], { start: 0, end: 1 });
  const bounds = wide(c, mask);
  const none = c.op('Expand', [c.builder.constant('int64', 0), rows]);
  const starts = c.op('Slice', [c.op('Concat', [bounds, none], { axis: 0 }), rows, c.op('Add', [rows, rows])]);
  const column = (value: string) => c.op('Unsqueeze', [value, c.ints([1, 2, 3])]);
  const keys = count(c, lengthOf(c, k, 2));
  const before = c.op('Less', [keys, column(c.op('Slice', [bounds, c.ints([0]), rows]))]);
  return c.op('And', [before, c.op('GreaterOrEqual', [keys, column(starts)])]);
}

/** Input projection included. */
function attention(c: LowerContext): string[] {
  const heads = intAttribute(c.node, 'num_heads', 1);
  const product = c.op('MatMul', [c.required(0), c.required(1)]);
  const projected = c.input(2) === null ? product : c.op('Add', [product, c.required(2)]);
  const width = knownDim(c, projected, -1, 'the hidden size') / 3;
  const sizes = intsAttribute(c.node, 'qkv_hidden_sizes') ?? [width, width, width];
  const parts = c.builder.emit('Split', [projected, c.ints(sizes)], { axis: -1 }, { outputs: 3 });
  const [q, newK, newV] = parts.map((one) => splitHeads(c, one, heads));
  const past = c.input(4);
  const [pastK, pastV] = [0, 1].map((i) =>
    past === null ? null : c.op('Gather', [past, c.builder.constant('int64', i)], { axis: 0 }),
  );
  const [k, v] = [withPast(c, pastK!, newK!), withPast(c, pastV!, newV!)];
  const y = masked(c, { q: q!, k, v }, { mask: c.input(3), bias: c.input(5), past: pastK! });
  const present = () =>
    c.op(
      'Concat',
      [k, v].map((one) => c.op('Unsqueeze', [one, c.ints([0])])),
      { axis: 0 },
    );
  return [y, c.node.outputs[1] ? present() : ''];
}

interface Masking {
  mask: string | null;
  bias: string | null;
  /** Keys of the past. */
  past: string | null;
}

/** [B, S, N·E] */
function masked(c: LowerContext, heads: { q: string; k: string; v: string }, { mask, bias, past }: Masking): string {
  const { q, k } = heads;
  const { y } = attend(c, {
    ...heads,
    biases: [mask === null ? null : paddingBias(c, mask, k), bias].filter((one) => one !== null),
    allowed: intAttribute(c.node, 'unidirectional', 0) === 1 ? [causal(c, q, k, pastLength(c, past))] : [],
    scale: floatAttribute(c.node, 'scale', 0),
    softcap: 0,
  });
  return joinHeads(c, y);
}

/** Query, key and value projected already. */
function multiHeadAttention(c: LowerContext): string[] {
  const heads = intAttribute(c.node, 'num_heads', 1);
  const [query, key, value] = [c.required(0), c.input(1), c.input(2)];
  if (key === null || value === null)
    throw unsupported(c.node, `takes ${key === null ? 'query, key' : 'key'} and value packed, which has no gradient`);
  const bias = c.input(3);
  const width = knownDim(c, query, -1, 'the hidden size');
  const parts = bias === null ? [] : splitBias(c, bias, width);
  const headsOf = (x: string, i: number) =>
    c.builder.shape(x).length === 4
      ? x
      : splitHeads(c, parts[i] === undefined ? x : c.op('Add', [x, parts[i]!]), heads);
  const [q, newK, newV] = [query, key, value].map(headsOf);
  const [k, v] = [withPast(c, c.input(6), newK!), withPast(c, c.input(7), newV!)];
  return [masked(c, { q: q!, k, v }, { mask: c.input(4), bias: c.input(5), past: c.input(6) }), k, v];
}

function splitBias(c: LowerContext, bias: string, width: number): string[] {
  const total = knownDim(c, bias, 0, 'the size of the bias');
  return c.builder.emit('Split', [bias, c.ints([width, width, total - 2 * width])], { axis: 0 }, { outputs: 3 });
}

export const microsoftAttentionLowerings: LoweredOp[] = [
  {
    name: 'Attention',
    domain: 'com.microsoft',
    opsets: [1],
    attributes: {
      do_rotary: { only: 0 },
      mask_filter_value: read,
      num_heads: read,
      past_present_share_buffer: { only: 0 },
      qkv_hidden_sizes: read,
      rotary_embedding_dim: { only: 0 },
      scale: read,
      unidirectional: read,
    },
    // Not past_sequence_length, which goes with a shared buffer.
    inputs: 6,
    lower: attention,
  },
  {
    name: 'MultiHeadAttention',
    domain: 'com.microsoft',
    opsets: [1],
    attributes: { mask_filter_value: read, num_heads: read, scale: read, unidirectional: read },
    inputs: 8,
    lower: multiHeadAttention,
  },
];
