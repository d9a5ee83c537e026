/** Runs that begin or go on behind keys and values: generation from a cache, and rows behind prefixes. */
import { createSession, type Feed, type SessionOptions } from '../onnx/session.ts';
import { feeds } from './feeds.ts';
import type { Inspected } from './inspect.ts';
import { cachedProgram } from './programs.ts';
import { lengthsOf, pickFeed, pickRows } from './rows.ts';
import { batchFeeds } from './run-program.ts';
import type { Decoding, LmBatch, PromptTable } from './types.ts';

export interface CachedSession {
  past: ReturnType<typeof cachedProgram>['past'];
  /** Logits at the targets and the cache after the run; where the cache is not asked for, it is not copied out. */
  run(all: Record<string, Feed>, wanted: 'logits' | 'cache'): Promise<{ logits: Float32Array; past: Feed[] }>;
  close(): Promise<void>;
}

export async function openCached(lm: Inspected, options: SessionOptions): Promise<CachedSession> {
  const program = cachedProgram(lm);
  const [logits] = program.outputs as [string];
  const session = await createSession(program.model, options);
  return {
    past: program.past,
    async run(all, wanted) {
      const given: Record<string, Feed> = {};
      for (const name of session.inputs) given[name] = all[name]!;
      const kept = wanted === 'cache' ? program.past : [];
      const results = await session.run(given, [logits, ...kept.map((one) => one.output)]);
      return { logits: results[logits]!.data as Float32Array, past: kept.map((one) => results[one.output]!) };
    },
    close: () => session.close(),
  };
}

/** What stands before a batch: keys and values, the mask over them and the batch, tokens before each row's first. */
interface Start {
  past: Feed[];
  mask: bigint[][];
  before: number[];
}

/**
 * The batch's prefixes [rows, heads, longest, size] by past input, the mask zero where a row's own prefix is shorter.
 * A row of a prefix table holds the keys and values of every layer, in the order of the past inputs.
 */
function startOf(inputs: CachedSession['past'], { rows, length, mask, prefixes }: LmBatch): Start {
  const before = Array.from({ length: rows }, (_, row) => prefixes?.[row]?.rows ?? 0);
  const longest = Math.max(0, ...before);
  let column = 0;
  const past = inputs.map(({ heads, size }): Feed => {
    const data = new Float32Array(rows * heads * longest * size);
    for (let row = 0; row < rows; row++) {
      const prefix = prefixes?.[row];
      if (!prefix) continue;
      for (let head = 0; head < heads; head++) {
        for (let at = 0; at < prefix.rows; at++) {
          const from = at * prefix.width + column + head * size;
          data.set(prefix.values.subarray(from, from + size), ((row * heads + head) * longest + at) * size);
        }
      }
    }
    column += heads * size;
    return { dtype: 'float32', dims: [rows, heads, longest, size], data };
  });
  const masks = before.map((count, row) => [
    ...Array.from({ length: longest }, (_, i) => (i < count ? 1n : 0n)),
    ...mask.subarray(row * length, (row + 1) * length),
  ]);
  return { past, mask: masks, before };
}

/** Feeds of a whole batch behind what stands before it; positions count on from each row's own prefix. */
function startFeeds(session: CachedSession, start: Start, batch: LmBatch, table: PromptTable): Record<string, Feed> {
  const counts = lengthsOf(batch);
  const positions = counts.flatMap((count, row) =>
    Array.from({ length: batch.length }, (_, i) => BigInt(start.before[row]! + Math.min(i, Math.max(count - 1, 0)))),
  );
  return {
    ...batchFeeds(batch, table),
    ...pastFeeds(session, start.past, start.mask),
    [feeds.positions]: { dtype: 'int64', dims: [batch.rows, batch.length], data: BigInt64Array.from(positions) },
  };
}

function pastFeeds(session: CachedSession, past: readonly Feed[], mask: bigint[][]): Record<string, Feed> {
  const dims = [mask.length, mask[0]!.length];
  return {
    [feeds.mask]: { dtype: 'int64', dims, data: BigInt64Array.from(mask.flat()) },
    ...Object.fromEntries(session.past.map((one, i) => [one.input, past[i]!])),
  };
}

/**
 * Keys and values of one text read from the beginning, as a prefix table [ids.length, layers · 2 · heads · size]: the
 * inverse of what {@link startOf} does with a table.
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
  const { past } = await session.run(startFeeds(session, startOf(session.past, batch), batch, none), 'cache');
  const row = session.past.reduce((sum, { heads, size }) => sum + heads * size, 0);
  const table = new Float32Array(length * row);
  let column = 0;
  for (const [i, { heads, size }] of session.past.entries()) {
    const values = past[i]!.data as Float32Array;
    for (let head = 0; head < heads; head++) {
      for (let at = 0; at < length; at++) {
        const from = (head * length + at) * size;
        table.set(values.subarray(from, from + size), at * row + column + head * size);
      }
    }
    column += heads * size;
  }
  return table;
}

/** Logits at the targets [rows, vocabulary] of rows behind their own prefixes. */
export async function logitsBehindPrefixes(
  session: CachedSession,
  batch: LmBatch,
  table: PromptTable,
): Promise<Float32Array> {
  return (await session.run(startFeeds(session, startOf(session.past, batch), batch, table), 'logits')).logits;
}

/**
 * Right-padded rows stay padded: their new tokens come after the padding, which the mask hides, and take the positions
 * that follow their own last token.
 */
export async function decodeWithCache(
  session: CachedSession,
  batch: LmBatch,
  table: PromptTable,
  vocabulary: number,
): Promise<Decoding> {
  const counts = lengthsOf(batch);
  const start = startOf(session.past, batch);
  let rows = Array.from({ length: batch.rows }, (_, row) => row);
  let next = counts.map((count, row) => start.before[row]! + count);
  let { mask } = start;
  const targets = BigInt64Array.from(counts, (count) => BigInt(count - 1));
  let { logits: current, past } = await session.run(startFeeds(session, start, { ...batch, targets }, table), 'cache');
  return {
    get rows() {
      return rows;
    },
    get logits() {
      return current;
    },
    async advance(tokens) {
      for (const row of mask) row.push(1n);
      const count = rows.length;
      const one: LmBatch = {
        rows: count,
        length: 1,
        ids: BigInt64Array.from(tokens, BigInt),
        mask: new BigInt64Array(0),
        slots: new BigInt64Array(count).fill(-1n),
        targets: new BigInt64Array(count),
      };
      const positions: Feed = { dtype: 'int64', dims: [count, 1], data: BigInt64Array.from(next, BigInt) };
      next = next.map((position) => position + 1);
      const given = { ...batchFeeds(one, table), ...pastFeeds(session, past, mask), [feeds.positions]: positions };
      ({ logits: current, past } = await session.run(given, 'cache'));
    },
    keep(wanted) {
      const kept = rows.flatMap((row, i) => (wanted.includes(row) ? [i] : []));
      current = pickRows(current, vocabulary, kept);
      past = past.map((one) => pickFeed(one, kept));
      rows = kept.map((i) => rows[i]!);
      next = kept.map((i) => next[i]!);
      mask = kept.map((i) => mask[i]!);
    },
  };
}
