/** Attention of ONNX, since opset 23. */
import { floatAttribute, intAttribute } from '../../onnx/ir.ts';
import { unsupported } from '../../ops/shared.ts';
import { attend, causal, firstKeys, pastLength, withPast } from './attend.ts';
import { joinHeads, lengthOf, splitHeads } from './heads.ts';
import { type LowerContext, type LoweredOp, read } from './lower.ts';

function attention(c: LowerContext): string[] {
  const flat = c.builder.shape(c.required(0)).length === 3;
  const headsOf = (i: number, attribute: string) =>
    flat ? splitHeads(c, c.required(i), intAttribute(c.node, attribute, 1)) : c.required(i);
  const q = headsOf(0, 'q_num_heads');
  const k = withPast(c, c.input(4), headsOf(1, 'kv_num_heads'));
  const v = withPast(c, c.input(5), headsOf(2, 'kv_num_heads'));
  const mask = c.input(3);
  const truth = mask !== null && c.builder.type(mask).dtype === 'bool';
  // Keys and values are a whole cache, of which each row has filled so many places: its queries are the last of them.
  const filled = c.input(6);
  const before = filled === null ? pastLength(c, c.input(4)) : beforeQueries(c, q, filled);
  const { y, stages } = attend(c, {
    q,
    k,
    v,
    biases: mask === null || truth ? [] : [mask],
    allowed: [
      ...(truth ? [mask!] : []),
      ...(filled === null ? [] : [firstKeys(c, k, filled)]),
      ...(intAttribute(c.node, 'is_causal', 0) === 1 ? [causal(c, q, k, before)] : []),
    ],
    scale: floatAttribute(c.node, 'scale', 0),
    softcap: floatAttribute(c.node, 'softcap', 0),
    // Without a mask every query sees its own key at least.
    blind: mask === null && filled === null ? 'even' : 'zero',
  });
  return [flat ? joinHeads(c, y) : y, k, v, c.node.outputs[3] ? stages[scoreStage(c)]! : ''];
}

/** Keys in front of the queries of each row, [B, 1, 1, 1]; negative where there are more queries than keys. */
function beforeQueries(c: LowerContext, q: string, filled: string): string {
  return c.op('Unsqueeze', [c.op('Sub', [filled, lengthOf(c, q, 2)]), c.ints([1, 2, 3])]);
}

/** Which of the stages output 3 is. */
function scoreStage(c: LowerContext): number {
  const mode = intAttribute(c.node, 'qk_matmul_output_mode', 0);
  if (mode >= 0 && mode <= 3) return mode;
  throw unsupported(c.node, `has qk_matmul_output_mode = ${mode}; 0 to 3 are known`);
}

export const attentionLowerings: LoweredOp[] = [
  {
    name: 'Attention',
    opsets: [23, 24, 25],
    attributes: {
      is_causal: read,
      kv_num_heads: read,
      q_num_heads: read,
      qk_matmul_output_mode: read,
      scale: read,
      softcap: read,
      // Everything is computed in float32 on a CPU; elsewhere this says float32 or less.
      softmax_precision: read,
    },
    inputs: 7,
    lower: attention,
  },
];
