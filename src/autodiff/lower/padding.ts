/** Masks of com.microsoft's attention ops: the forms that say which keys are padding. */
import { multiplyDims, sameDim } from '../../onnx/dim.ts';
import { floatAttribute } from '../../onnx/ir.ts';
import { unsupported } from '../../ops/shared.ts';
import { firstKeys } from './attend.ts';
import { count, lengthOf, wide } from './heads.ts';
import type { LowerContext } from './lower.ts';

/**
 * Padding as something to add to the scores: [B] counts of keys, [2B] such counts and after them the first key of each
 * row, [B, T] or [B, S, T] of zeros and ones, or [B, 1, M, M] of them for rows of up to M tokens.
 */
export function paddingBias(c: LowerContext, mask: string, q: string, k: string): string {
  const filter = c.scalar(floatAttribute(c.node, 'mask_filter_value', -10000), k);
  return c.op('Where', [seenKeys(c, mask, q, k), c.scalar(0, k), filter]);
}

function seenKeys(c: LowerContext, mask: string, q: string, k: string): string {
  const rank = c.builder.shape(mask).length;
  if (rank === 1) return between(c, mask, k);
  if (rank > 4) throw unsupported(c.node, `has a mask of rank ${rank}; ranks 1 to 4 have a gradient`);
  const placed = rank === 4 ? lastQueries(c, mask, q, k) : c.op('Unsqueeze', [mask, c.ints(rank === 2 ? [1, 2] : [1])]);
  return c.op('Cast', [placed], { to: 9 });
}

/** [B, 1, S, T] of [B, 1, M, M]: queries are the last of the T tokens. */
function lastQueries(c: LowerContext, mask: string, q: string, k: string): string {
  const size = (value: string) => c.op('Shape', [value], { start: 2, end: 3 });
  const [queries, keys] = [size(q), size(k)];
  const starts = c.op('Concat', [c.op('Sub', [keys, queries]), c.ints([0])], { axis: 0 });
  return c.op('Slice', [mask, starts, c.op('Concat', [keys, keys], { axis: 0 }), c.ints([2, 3])]);
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
  const from = c.op('Unsqueeze', [starts, c.ints([1, 2, 3])]);
  const behindStart = c.op('GreaterOrEqual', [count(c, lengthOf(c, k, 2)), from]);
  return c.op('And', [firstKeys(c, k, c.op('Slice', [bounds, c.ints([0]), rows])), behindStart]);
}
