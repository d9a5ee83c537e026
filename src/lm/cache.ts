/** An LM that yields its keys and values: those of a text, and generation that goes on from those of each step. */
import { lowerings } from '../autodiff/lower/registry.ts';
import { type Graph, intAttribute } from '../onnx/ir.ts';
import type { Feed, SessionOptions } from '../onnx/session.ts';
import { opKey } from '../ops/op.ts';
import { openBehind, type Start, startBehind } from './behind.ts';
import type { Inspected } from './inspect.ts';
import { type PastShape, pastOfRow, tableOfPast } from './past.ts';
import { cachedProgram } from './programs.ts';
import { lengthsOf, pickFeed, pickRows, textOf } from './rows.ts';
import { batchFeeds } from './run-program.ts';
import type { Decoding, LmBatch, PromptTable } from './types.ts';

export interface CachedSession {
  past: readonly PastShape[];
  /** Logits at the targets and the cache after the run; where the cache is not asked for, it is not copied out. */
  run(
    batch: LmBatch,
    table: PromptTable,
    start: Start,
    wanted: 'logits' | 'cache',
  ): Promise<{ logits: Float32Array; past: Feed[] }>;
  close(): Promise<void>;
}

/** Whether fused attention turns queries and keys itself, at places counted from the mask where rows have gaps. */
export function countsPositions({ nodes }: Graph): boolean {
  return nodes.some(
    (node) =>
      lowerings.get(opKey(node.domain, node.op))?.countsKeys === true &&
      intAttribute(node, 'do_rotary', 0) === 1 &&
      !node.inputs[9],
  );
}

export async function openCached(lm: Inspected, options: SessionOptions): Promise<CachedSession> {
  const program = cachedProgram(lm);
  const [logits] = program.outputs as [string];
  const { run, close } = await openBehind(program, program.past, options);
  return {
    past: program.past,
    async run(batch, table, start, wanted) {
      const kept = wanted === 'cache' ? program.past : [];
      const outputs = [logits, ...kept.map((one) => one.output)];
      const [first, ...past] = await run(batchFeeds(batch, table), batch, start, outputs);
      return { logits: first!.data as Float32Array, past };
    },
    close,
  };
}

/**
 * Keys and values of one text read from the beginning, as a prefix table [ids.length, layers · 2 · heads · size].
 */
export async function keysAndValues(
  session: CachedSession,
  ids: readonly number[],
  width: number,
): Promise<Float32Array> {
  const none: PromptTable = { rows: 1, width, values: new Float32Array(width) };
  const { past } = await session.run(textOf(ids), none, startBehind(session.past, [null]), 'cache');
  return tableOfPast(session.past, pastOfRow(past, 0, 0, ids.length));
}

/**
 * Generation behind the batch's targets, which are each row's last token. Right-padded rows stay padded: their new tokens
 * come after the padding, which the mask hides, and take the positions that follow their own last token.
 */
export async function decodeWithCache(
  session: CachedSession,
  batch: LmBatch,
  table: PromptTable,
  start: Start,
): Promise<Decoding> {
  const counts = lengthsOf(batch);
  let rows = Array.from({ length: batch.rows }, (_, row) => row);
  let next = counts.map((count, row) => start.before[row]! + count);
  let mask = start.mask.map((own, row) => [
    ...own,
    ...batch.mask.subarray(row * batch.length, (row + 1) * batch.length),
  ]);
  let { logits: current, past } = await session.run(batch, table, start, 'cache');
  return {
    get rows() {
      return rows;
    },
    get logits() {
      return current;
    },
    async advance(tokens) {
      const one = stepOf(tokens);
      const groups = rows.map((_, i) => i);
      ({ logits: current, past } = await session.run(one, table, { past, mask, before: next, groups }, 'cache'));
      next = next.map((position) => position + 1);
      for (const row of mask) row.push(1n);
    },
    keep(wanted) {
      const kept = rows.flatMap((row, i) => (wanted.includes(row) ? [i] : []));
      current = pickRows(current, current.length / rows.length, kept);
      past = past.map((one) => pickFeed(one, kept));
      rows = kept.map((i) => rows[i]!);
      next = kept.map((i) => next[i]!);
      mask = kept.map((i) => mask[i]!);
    },
  };
}

/** One token a row. */
function stepOf(tokens: readonly number[]): LmBatch {
  const count = tokens.length;
  return {
    rows: count,
    length: 1,
    ids: BigInt64Array.from(tokens, BigInt),
    mask: new BigInt64Array(count).fill(1n),
    slots: new BigInt64Array(count).fill(-1n),
    targets: new BigInt64Array(count),
  };
}
