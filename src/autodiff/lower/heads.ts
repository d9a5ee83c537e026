/** Shapes and lengths that attention and rotary embeddings share. */
import { PtunedError } from '../../errors.ts';
import { describeNode } from '../../onnx/ir.ts';
import type { LowerContext } from './lower.ts';

/** A dimension that has to be a number. @throws PtunedError import_refused */
export function knownDim(c: LowerContext, value: string, axis: number, what: string): number {
  const dim = c.builder.shape(value).at(axis);
  if (typeof dim === 'number') return dim;
  throw new PtunedError('import_refused', `${describeNode(c.node)}: ${what} must be known before the run.`);
}

/** [B, S, N·D] to [B, N, S, D]. */
export function splitHeads(c: LowerContext, x: string, heads: number): string {
  const size = knownDim(c, x, -1, 'the hidden size') / heads;
  return c.op('Transpose', [c.op('Reshape', [x, c.ints([0, 0, heads, size])])], { perm: [0, 2, 1, 3] });
}

/** [B, N, S, D] to [B, S, N·D]. */
export function joinHeads(c: LowerContext, x: string): string {
  const width = knownDim(c, x, 1, 'the number of heads') * knownDim(c, x, -1, 'the head size');
  return c.op('Reshape', [c.op('Transpose', [x], { perm: [0, 2, 1, 3] }), c.ints([0, 0, width])]);
}

/** Query, key and value of [B, S, (N + 2M)·D]. */
export function packedParts(c: LowerContext, heads: number, keyHeads: number): string[] {
  const size = knownDim(c, c.required(0), -1, 'the hidden size') / (heads + 2 * keyHeads);
  const sizes = c.ints([heads * size, keyHeads * size, keyHeads * size]);
  return c.builder.emit('Split', [c.required(0), sizes], { axis: -1 }, { outputs: 3 });
}

/** Length of an axis as an int64 scalar. */
export function lengthOf(c: LowerContext, value: string, axis: number): string {
  return c.op('Squeeze', [c.op('Shape', [value], { start: axis, end: axis + 1 })]);
}

/** start, start + 1, … (length of them), int64; start defaults to 0. */
export function count(c: LowerContext, length: string, start?: string | null): string {
  const zero = c.builder.constant('int64', 0);
  const range = c.op('Range', [zero, length, c.builder.constant('int64', 1)]);
  return start === undefined || start === null ? range : c.op('Add', [range, start]);
}

/** An int32 or int64 value as int64. */
export function wide(c: LowerContext, value: string): string {
  return c.builder.type(value).dtype === 'int64' ? value : c.op('Cast', [value], { to: 7 });
}
