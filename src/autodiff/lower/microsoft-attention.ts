/** com.microsoft.Attention, with the projections of query, key and value; and what masks com.microsoft's attention ops. */
import { floatAttribute, intAttribute, intsAttribute, type Node } from '../../onnx/ir.ts';
import { attend, causal, pastLength, withPast } from './attend.ts';
import { joinHeads, knownDim, splitHeads } from './heads.ts';
import { type LowerContext, type LoweredOp, read } from './lower.ts';
import { paddingBias } from './padding.ts';
import { rotate, rotationFrom } from './rotary.ts';

function attention(c: LowerContext): string[] {
  const product = c.op('MatMul', [c.required(0), c.required(1)]);
  const projected = c.input(2) === null ? product : c.op('Add', [product, c.required(2)]);
  return attendProjected(c, projected, { mask: c.input(3), past: c.input(4), bias: c.input(5) });
}

/** Attention and, where it is asked for, the keys and values [2, B, N, T, D]. `past` is of that shape, too. */
export function attendProjected(
  c: LowerContext,
  projected: string,
  { mask, past, bias }: Masking & { bias: string | null },
): string[] {
  const heads = intAttribute(c.node, 'num_heads', 1);
  const width = knownDim(c, projected, -1, 'the hidden size') / 3;
  const sizes = intsAttribute(c.node, 'qkv_hidden_sizes') ?? [width, width, width];
  const parts = c.builder.emit('Split', [projected, c.ints(sizes)], { axis: -1 }, { outputs: 3 });
  const [pastK, pastV] = [0, 1].map((i) =>
    past === null ? null : c.op('Gather', [past, c.builder.constant('int64', i)], { axis: 0 }),
  );
  const [plainQ, plainK, newV] = parts.map((one) => splitHeads(c, one, heads));
  const [q, newK] = turned(c, plainQ!, plainK!, pastK!);
  const [k, v] = [withPast(c, pastK!, newK), withPast(c, pastV!, newV!)];
  const { y } = maskedAttention(c, { q, k, v }, { mask, bias, past: pastK! });
  const present = () =>
    c.op(
      'Concat',
      [k, v].map((one) => c.op('Unsqueeze', [one, c.ints([0])])),
      { axis: 0 },
    );
  return [y, c.node.outputs[1] ? present() : ''];
}

/** do_rotary: query and new key, turned by angles of base 10000 over the first rotary_embedding_dim features. */
function turned(c: LowerContext, q: string, k: string, past: string | null): [string, string] {
  if (intAttribute(c.node, 'do_rotary', 0) !== 1) return [q, k];
  const size = intAttribute(c.node, 'rotary_embedding_dim', 0) || knownDim(c, q, -1, 'the head size');
  const rotation = rotationFrom(c, q, pastLength(c, past), size);
  return [rotate(c, q, rotation), rotate(c, k, rotation)];
}

interface Masking {
  mask: string | null;
  bias: string | null;
  /** Keys of the past. */
  past: string | null;
}

/** Its result [B, S, N·E], and the scores before softmax. */
export function maskedAttention(
  c: LowerContext,
  heads: { q: string; k: string; v: string },
  { mask, bias, past }: Masking,
): { y: string; scores: string } {
  const { q, k } = heads;
  const { y, stages } = attend(c, {
    ...heads,
    biases: [mask === null ? null : paddingBias(c, mask, q, k), bias].filter((one) => one !== null),
    allowed: intAttribute(c.node, 'unidirectional', 0) === 1 ? [causal(c, q, k, pastLength(c, past))] : [],
    scale: floatAttribute(c.node, 'scale', 0),
    softcap: 0,
  });
  return { y: joinHeads(c, y), scores: stages[2] };
}

export const microsoftAttentionLowerings: LoweredOp[] = [
  {
    name: 'Attention',
    domain: 'com.microsoft',
    opsets: [1],
    attributes: {
      do_rotary: read,
      mask_filter_value: read,
      num_heads: read,
      past_present_share_buffer: { only: 0 },
      qkv_hidden_sizes: read,
      rotary_embedding_dim: read,
      scale: read,
      unidirectional: read,
    },
    // Not past_sequence_length, which goes with a shared buffer.
    inputs: 6,
    lower: attention,
    // The runtime's kernel for CPUs would leave out the rotation without a word.
    everywhere: (node: Node) => intAttribute(node, 'do_rotary', 0) === 1,
  },
];
