/** Runs of an LM behind keys and values: rows that begin behind some, and generation that goes on from those of each step. */
import { lowerings } from '../autodiff/lower/registry.ts';
import { type Graph, intAttribute } from '../onnx/ir.ts';
import { createSession, type Feed, type SessionOptions } from '../onnx/session.ts';
import { opKey } from '../ops/op.ts';
import { feeds } from './feeds.ts';
import type { Inspected } from './inspect.ts';
import { packingFeeds } from './packing-feeds.ts';
import { type Past, type PastShape, pastOfRow, stackPasts, tableOfPast } from './past.ts';
import { cachedProgram } from './programs.ts';
import { lengthsOf, pickFeed, pickRows } from './rows.ts';
import { batchFeeds } from './run-program.ts';
import type { Decoding, LmBatch, PromptTable } from './types.ts';

/** What stands before a batch's rows. */
export interface Start {
  /** A feed [rows, heads, longest, size] for each past input. */
  past: Feed[];
  /** [rows][longest]: 0 where a row has less than the longest. */
  mask: bigint[][];
  /** Tokens before each row's first, which its positions count on from. */
  before: number[];
  /** Rows of equal numbers have the same before them, so that what they begin with alike is the same too. */
  groups: number[];
}

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
  const session = await createSession(program.model, options);
  const isPacked = session.inputs.includes(feeds.packed);
  return {
    past: program.past,
    async run(batch, table, start, wanted) {
      const all = { ...batchFeeds(batch, table), ...startFeeds(start, batch) };
      for (const [i, { input }] of program.past.entries()) all[input] = start.past[i]!;
      if (isPacked) Object.assign(all, packingFeeds(batch, batch.targets, program.sharesPrefixes, start.groups));
      const given: Record<string, Feed> = {};
      for (const name of session.inputs) given[name] = all[name]!;
      const kept = wanted === 'cache' ? program.past : [];
      const results = await session.run(given, [logits, ...kept.map((one) => one.output)]);
      return { logits: results[logits]!.data as Float32Array, past: kept.map((one) => results[one.output]!) };
    },
    close: () => session.close(),
  };
}

/** Rows of a batch behind what each has before it; equal objects are the same tokens. */
export function startBehind(shapes: readonly PastShape[], pasts: readonly (Past | null)[]): Start {
  const before = pasts.map((past) => past?.tokens ?? 0);
  const longest = Math.max(0, ...before);
  const distinct = [...new Set(pasts)];
  return {
    past: stackPasts(shapes, pasts),
    mask: before.map((count) => Array.from({ length: longest }, (_, i) => (i < count ? 1n : 0n))),
    before,
    groups: pasts.map((past) => distinct.indexOf(past)),
  };
}

/** Mask over what stands before and the batch, and positions that count on from each row's own tokens. */
function startFeeds({ mask, before }: Start, batch: LmBatch): Record<string, Feed> {
  const { rows, length } = batch;
  const positions = lengthsOf(batch).flatMap((count, row) =>
    Array.from({ length }, (_, i) => BigInt(before[row]! + Math.min(i, Math.max(count - 1, 0)))),
  );
  const whole = mask.flatMap((own, row) => [...own, ...batch.mask.subarray(row * length, (row + 1) * length)]);
  return {
    [feeds.mask]: { dtype: 'int64', dims: [rows, whole.length / rows], data: BigInt64Array.from(whole) },
    [feeds.positions]: { dtype: 'int64', dims: [rows, length], data: BigInt64Array.from(positions) },
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
  const length = ids.length;
  const batch: LmBatch = {
    rows: 1,
    length,
    ids: BigInt64Array.from(ids, BigInt),
    mask: new BigInt64Array(length).fill(1n),
    slots: new BigInt64Array(length).fill(-1n),
    targets: new BigInt64Array(1),
  };
  const none: PromptTable = { rows: 1, width, values: new Float32Array(width) };
  const { past } = await session.run(batch, none, startBehind(session.past, [null]), 'cache');
  return tableOfPast(session.past, pastOfRow(past, 0, { from: 0, to: 0 }, length));
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
