/** com.microsoft.GroupQueryAttention. */
import { floatAttribute, intAttribute } from '../../onnx/ir.ts';
import { attend, causal, pastLength, withPast } from './attend.ts';
import { count, joinHeads, lengthOf, packedParts, splitHeads } from './heads.ts';
import { type LowerContext, type LoweredOp, read } from './lower.ts';
import { rotate, rotationAt } from './rotary.ts';

/**
 * Always causal. Counts of keys by row (seqlens_k) say what a row has where it has no gaps: rows are padded on the right, so
 * that no query of a token sees padding, and the counts change nothing that is read. Where rows have gaps (behind pasts of
 * different lengths, and behind padding) the mask says which keys there are.
 */
function groupQueryAttention(c: LowerContext): string[] {
  const [heads, keyHeads] = [intAttribute(c.node, 'num_heads', 1), intAttribute(c.node, 'kv_num_heads', 1)];
  const [query, key, value] =
    c.input(1) === null ? packedParts(c, heads, keyHeads) : [c.required(0), c.required(1), c.required(2)];
  const past = pastLength(c, c.input(3));
  const [q, newK] = turned(c, splitHeads(c, query!, heads), splitHeads(c, key!, keyHeads), past);
  const [k, v] = [withPast(c, c.input(3), newK), withPast(c, c.input(4), splitHeads(c, value!, keyHeads))];
  const bias = c.input(10);
  const { y } = attend(c, {
    q,
    k,
    v,
    biases: bias === null ? [] : [bias],
    allowed: seen(c, q, k, past),
    scale: floatAttribute(c.node, 'scale', 0),
    softcap: floatAttribute(c.node, 'softcap', 0),
    sink: sinkOf(c, q),
  });
  return [joinHeads(c, y), k, v];
}

/** Which keys a query may see: those up to its own, in a window those near it; where there are gaps not what is in them. */
function seen(c: LowerContext, q: string, k: string, past: string | null): string[] {
  const window = intAttribute(c.node, 'local_window_size', -1);
  if (c.keyMask === null) return [causal(c, q, k, past, window)];
  const present = c.op('Cast', [c.op('Unsqueeze', [c.keyMask, c.ints([1, 2])])], { to: 9 });
  const before = [causal(c, q, k, past), present];
  if (window <= 0) return before;
  const [columns, rows] = [maskedPlaces(c, c.keyMask), newPlaces(c, c.keyMask, q)].map((places, i) =>
    c.op('Unsqueeze', [places, c.ints(i === 0 ? [1, 2] : [1, 3])]),
  );
  return [...before, c.op('Greater', [columns!, c.op('Sub', [rows!, c.builder.constant('int64', window)])])];
}

/** max(cumsum(mask) − 1, 0): places of all keys [batch, keys], counted without gaps. */
function maskedPlaces(c: LowerContext, mask: string): string {
  const counted = c.op('CumSum', [mask, c.builder.constant('int64', 1)]);
  return c.op('Max', [c.op('Sub', [counted, c.builder.constant('int64', 1)]), c.builder.constant('int64', 0)]);
}

/** Places of the new keys alone, as many as there are queries [batch, heads, new, size]: the last ones. */
function newPlaces(c: LowerContext, mask: string, q: string): string {
  const length = c.op('Shape', [q], { start: 2, end: 3 });
  const end = c.ints([Number.MAX_SAFE_INTEGER]);
  return c.op('Slice', [maskedPlaces(c, mask), c.op('Neg', [length]), end, c.ints([1])]);
}

/** Queries and new keys at their places: those given, or counted from the past on. */
function turned(c: LowerContext, q: string, k: string, past: string | null): [string, string] {
  if (intAttribute(c.node, 'do_rotary', 0) !== 1) return [q, k];
  const places = c.input(9) ?? countedPlaces(c, q, past);
  const interleaved = intAttribute(c.node, 'rotary_interleaved', 0) === 1;
  const rotation = rotationAt(c, places, { cos: c.required(7), sin: c.required(8) }, interleaved);
  return [rotate(c, q, rotation), rotate(c, k, rotation)];
}

/** [batch or 1, new] */
function countedPlaces(c: LowerContext, q: string, past: string | null): string {
  if (c.keyMask !== null) return newPlaces(c, c.keyMask, q);
  return c.op('Unsqueeze', [count(c, lengthOf(c, q, 2), past), c.ints([0])]);
}

/** A logit for each head, or 0 for all. */
function sinkOf(c: LowerContext, q: string): string | null {
  return c.input(11) ?? (intAttribute(c.node, 'smooth_softmax', 0) === 1 ? c.scalar(0, q) : null);
}

export const groupQueryLowerings: LoweredOp[] = [
  {
    name: 'GroupQueryAttention',
    domain: 'com.microsoft',
    opsets: [1],
    attributes: {
      causal: { only: 1 },
      do_rotary: read,
      k_quant_type: { only: 'NONE' },
      kv_cache_bit_width: { only: 0 },
      kv_num_heads: read,
      local_window_size: read,
      num_heads: read,
      qk_output: { only: 0 },
      rotary_interleaved: read,
      scale: read,
      sliding_window_cache: { only: 0 },
      smooth_softmax: read,
      softcap: read,
      v_quant_type: { only: 'NONE' },
    },
    inputs: 12,
    lower: groupQueryAttention,
    countsKeys: true,
  },
];
