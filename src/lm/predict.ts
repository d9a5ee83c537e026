/** Logits at targets, and generation for causal LMs, with the export's key/value cache where it has one. */
import { PtunedError } from '../errors.ts';
import { createSession, type Feed, type SessionOptions } from '../onnx/session.ts';
import { feeds } from './feeds.ts';
import type { Inspected } from './inspect.ts';
import { cachedProgram, predictProgram } from './programs.ts';
import { batchFeeds, openProgram } from './run-program.ts';
import type { Decoding, LmBatch, Predictor, PromptTable } from './types.ts';

/** Opens the prediction session; the one with a cache is opened when generation first needs it. */
export async function createPredictor(lm: Inspected, options: SessionOptions): Promise<Predictor> {
  const runner = await openProgram(predictProgram(lm), options);
  let cached: Promise<CachedSession> | null = null;
  const logits = async (batch: LmBatch, table: PromptTable) =>
    (await runner.run(batchFeeds(batch, table)))[0] as Float32Array;
  return {
    logits,
    async decode(batch, table) {
      if (lm.config.kind !== 'causal')
        throw new PtunedError('wrong_model_kind', 'A masked LM does not generate text; a causal LM is needed.');
      if (!hasCache(lm)) return decodeByRepeating(batch, table, lm.vocabularySize, logits);
      cached ??= openCached(lm, options);
      return decodeWithCache(await cached, batch, table, lm.vocabularySize);
    },
    async close() {
      await runner.close();
      await (await cached)?.close();
    },
  };
}

/** A cache can continue padded rows only where positions are an input: otherwise they would count the padding. */
function hasCache(lm: Inspected): boolean {
  const has = (role: string) => lm.inputs.some((input) => input.role === role);
  const usual = lm.inputs.every(
    (input) =>
      input.role !== 'past' ||
      (input.shape.length === 4 && typeof input.shape[1] === 'number' && typeof input.shape[3] === 'number'),
  );
  return has('past') && has('position_ids') && has('attention_mask') && usual;
}

function lengths(batch: LmBatch): number[] {
  return Array.from({ length: batch.rows }, (_, row) => {
    let count = 0;
    for (let i = 0; i < batch.length; i++) count += Number(batch.mask[row * batch.length + i]!);
    return count;
  });
}

/** Without a cache every step runs the whole sequence again. */
async function decodeByRepeating(
  batch: LmBatch,
  table: PromptTable,
  vocabulary: number,
  logitsOf: Predictor['logits'],
): Promise<Decoding> {
  const counts = lengths(batch);
  let sequences = counts.map((count, row) => ({
    row,
    ids: [...batch.ids.subarray(row * batch.length, row * batch.length + count)],
    slots: [...batch.slots.subarray(row * batch.length, row * batch.length + count)],
  }));
  let current: Float32Array = new Float32Array(0);
  const compute = async () => {
    const length = Math.max(...sequences.map((one) => one.ids.length));
    const next: LmBatch = {
      rows: sequences.length,
      length,
      ids: new BigInt64Array(sequences.length * length),
      mask: new BigInt64Array(sequences.length * length),
      slots: new BigInt64Array(sequences.length * length).fill(-1n),
      targets: BigInt64Array.from(sequences, (one) => BigInt(one.ids.length - 1)),
    };
    for (const [i, one] of sequences.entries()) {
      next.ids.set(one.ids, i * length);
      next.slots.set(one.slots, i * length);
      next.mask.fill(1n, i * length, i * length + one.ids.length);
    }
    current = await logitsOf(next, table);
  };
  await compute();
  return {
    get rows() {
      return sequences.map((one) => one.row);
    },
    get logits() {
      return current;
    },
    async advance(tokens) {
      for (const [i, one] of sequences.entries()) {
        one.ids.push(BigInt(tokens[i]!));
        one.slots.push(-1n);
      }
      await compute();
    },
    keep(rows) {
      const kept = sequences.flatMap((one, i) => (rows.includes(one.row) ? [i] : []));
      current = pickRows(current, vocabulary, kept);
      sequences = kept.map((i) => sequences[i]!);
    },
  };
}

interface CachedSession {
  past: ReturnType<typeof cachedProgram>['past'];
  run(all: Record<string, Feed>): Promise<{ logits: Float32Array; past: Feed[] }>;
  close(): Promise<void>;
}

async function openCached(lm: Inspected, options: SessionOptions): Promise<CachedSession> {
  const program = cachedProgram(lm);
  const session = await createSession(program.model, options);
  return {
    past: program.past,
    async run(all) {
      const wanted: Record<string, Feed> = {};
      for (const name of session.inputs) wanted[name] = all[name]!;
      const results = await session.run(wanted);
      return {
        logits: results[program.outputs[0]!]!.data as Float32Array,
        past: program.past.map((one) => results[one.output]!),
      };
    },
    close: () => session.close(),
  };
}

/**
 * Right-padded rows stay padded: their new tokens come after the padding, which the mask hides, and take the positions
 * that follow their own last token.
 */
async function decodeWithCache(
  session: CachedSession,
  batch: LmBatch,
  table: PromptTable,
  vocabulary: number,
): Promise<Decoding> {
  let rows = Array.from({ length: batch.rows }, (_, row) => row);
  let next = lengths(batch);
  let mask = rows.map((row) => [...batch.mask.subarray(row * batch.length, (row + 1) * batch.length)]);
  let past: Feed[] = session.past.map((one) => ({
    dtype: 'float32',
    dims: [batch.rows, one.heads, 0, one.size],
    data: new Float32Array(0),
  }));
  let current: Float32Array = new Float32Array(0);
  const step = async (ids: BigInt64Array, slots: BigInt64Array, positions: BigInt64Array, targets: BigInt64Array) => {
    const length = ids.length / rows.length;
    const total = mask[0]!.length;
    const feed: Record<string, Feed> = {
      ...batchFeeds({ rows: rows.length, length, ids, mask: new BigInt64Array(0), slots, targets }, table),
      [feeds.positions]: { dtype: 'int64', dims: [rows.length, length], data: positions },
      [feeds.mask]: { dtype: 'int64', dims: [rows.length, total], data: BigInt64Array.from(mask.flat()) },
    };
    for (const [i, one] of session.past.entries()) feed[one.input] = past[i]!;
    const result = await session.run(feed);
    current = result.logits;
    past = result.past;
  };
  const positions = BigInt64Array.from(
    rows.flatMap((row) =>
      Array.from({ length: batch.length }, (_, i) => BigInt(Math.min(i, Math.max(next[row]! - 1, 0)))),
    ),
  );
  await step(
    batch.ids,
    batch.slots,
    positions,
    BigInt64Array.from(next, (count) => BigInt(count - 1)),
  );
  return {
    get rows() {
      return rows;
    },
    get logits() {
      return current;
    },
    async advance(tokens) {
      for (const row of mask) row.push(1n);
      const at = BigInt64Array.from(next, BigInt);
      next = next.map((count) => count + 1);
      const none = new BigInt64Array(rows.length).fill(-1n);
      await step(BigInt64Array.from(tokens, BigInt), none, at, new BigInt64Array(rows.length));
    },
    keep(wanted) {
      const kept = rows.flatMap((row, i) => (wanted.includes(row) ? [i] : []));
      current = pickRows(current, vocabulary, kept);
      past = past.map((one) => pickBatch(one, kept));
      rows = kept.map((i) => rows[i]!);
      next = kept.map((i) => next[i]!);
      mask = kept.map((i) => mask[i]!);
    },
  };
}

function pickRows(values: Float32Array, width: number, rows: readonly number[]): Float32Array {
  const picked = new Float32Array(rows.length * width);
  for (const [i, row] of rows.entries()) picked.set(values.subarray(row * width, (row + 1) * width), i * width);
  return picked;
}

function pickBatch(feed: Feed, rows: readonly number[]): Feed {
  const width = feed.dims.slice(1).reduce((product, dim) => product * dim, 1);
  return {
    ...feed,
    dims: [rows.length, ...feed.dims.slice(1)],
    data: pickRows(feed.data as Float32Array, width, rows),
  };
}
