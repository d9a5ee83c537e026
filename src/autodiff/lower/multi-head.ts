/** com.microsoft.MultiHeadAttention: query, key and value are projected already. */
import { intAttribute, type Node } from '../../onnx/ir.ts';
import { unsupported } from '../../ops/shared.ts';
import { withPast } from './attend.ts';
import { knownDim, splitHeads } from './heads.ts';
import { type LowerContext, type LoweredOp, read } from './lower.ts';
import { maskedAttention } from './microsoft-attention.ts';

/** Output 3, where it is asked for, is q·kᵀ·scale with the biases, as the kernel hands it out before softmax. */
function multiHeadAttention(c: LowerContext): string[] {
  const heads = intAttribute(c.node, 'num_heads', 1);
  const [query, key, value] = separate(c);
  const bias = c.input(3);
  const width = knownDim(c, query, -1, 'the hidden size');
  const parts = bias === null ? [] : splitBias(c, bias, width);
  const headsOf = (x: string, i: number) =>
    c.builder.shape(x).length === 4
      ? x
      : splitHeads(c, parts[i] === undefined ? x : c.op('Add', [x, parts[i]!]), heads);
  const [q, newK, newV] = [query, key, value].map(headsOf);
  const [k, v] = [withPast(c, c.input(6), newK!), withPast(c, c.input(7), newV!)];
  const masking = { mask: c.input(4), bias: c.input(5), past: c.input(6) };
  const { y, scores } = maskedAttention(c, { q: q!, k, v }, masking);
  return [y, k, v, scores];
}

/** Query, key and value of their own: packed ones are [B, S, N, 3, D], or [B, T, N, 2, D] for key and value. */
function separate(c: LowerContext): [string, string, string] {
  const [query, key, value] = [c.required(0), c.input(1), c.input(2)];
  if (key !== null && value !== null) return [query, key, value];
  const packed = key ?? query;
  const parts = key === null ? 3 : 2;
  const shape = c.builder.shape(packed);
  if (value !== null || shape.length !== 5 || shape[3] !== parts)
    throw unsupported(c.node, 'lacks key or value, and has no [batch, sequence, heads, 2 or 3, size] that holds them');
  const width = knownDim(c, packed, 2, 'the number of heads') * knownDim(c, packed, 4, 'the head size');
  const sizes = c.ints(Array.from({ length: parts }, () => 1));
  const split = c.builder.emit('Split', [packed, sizes], { axis: 3 }, { outputs: parts });
  const flat = split.map((one) => c.op('Reshape', [one, c.ints([0, 0, width])]));
  return (key === null ? flat : [query, ...flat]) as [string, string, string];
}

function splitBias(c: LowerContext, bias: string, width: number): string[] {
  const total = knownDim(c, bias, 0, 'the size of the bias');
  return c.builder.emit('Split', [bias, c.ints([width, width, total - 2 * width])], { axis: 0 }, { outputs: 3 });
}

/** The runtime's kernel for CPUs takes no packed input. */
function isPacked({ inputs }: Node): boolean {
  return !inputs[1] || !inputs[2];
}

export const multiHeadLowerings: LoweredOp[] = [
  {
    name: 'MultiHeadAttention',
    domain: 'com.microsoft',
    opsets: [1],
    attributes: { mask_filter_value: read, num_heads: read, scale: read, unidirectional: read },
    // Not past_sequence_length and cache_indirection, which go with shared buffers and beams.
    inputs: 8,
    lower: multiHeadAttention,
    everywhere: isPacked,
  },
];
