/** Logits at targets, and generation for causal LMs, with the export's key/value cache where it has one. */
import { PtunedError } from '../errors.ts';
import { hasCache } from '../models/past.ts';
import type { SessionOptions } from '../onnx/session.ts';
import { answering, decodeAnswers } from './answer.ts';
import { type CachedSession, decodeWithCache, logitsBehindPrefixes, openCached } from './cache.ts';
import type { Inspected } from './inspect.ts';
import { predictProgram } from './programs.ts';
import { lengthsOf, pickRows } from './rows.ts';
import { batchFeeds, openProgram } from './run-program.ts';
import type { Decoding, LmBatch, Predictor, PromptTable } from './types.ts';

/** Opens the prediction session; the one with a cache is opened when generation first needs it. */
export async function createPredictor(lm: Inspected, options: SessionOptions): Promise<Predictor> {
  const runner = await openProgram(predictProgram(lm), options);
  let cached: Promise<CachedSession> | null = null;
  const openCache = () => (cached ??= openCached(lm, options));
  const logits = async (batch: LmBatch, table: PromptTable) => {
    if (batch.prefixes === undefined) return (await runner.run(batchFeeds(batch, table)))[0] as Float32Array;
    return logitsBehindPrefixes(await openCache(), batch, table);
  };
  return {
    logits,
    async decode(batch, table) {
      if (batch.decoder !== undefined) return decodeAnswers(batch, lm.vocabularySize, answering(logits, batch, table));
      if (lm.config.kind !== 'causal')
        throw new PtunedError(
          'wrong_model_kind',
          'A masked LM does not generate text; a causal or encoder-decoder LM is needed.',
        );
      if (!hasCache(lm.inputs)) return decodeByRepeating(batch, table, lm.vocabularySize, logits);
      return decodeWithCache(await openCache(), batch, table, lm.vocabularySize);
    },
    async close() {
      await runner.close();
      await (await cached)?.close();
    },
  };
}

/** Without a cache every step runs the whole sequence again. */
async function decodeByRepeating(
  batch: LmBatch,
  table: PromptTable,
  vocabulary: number,
  logitsOf: Predictor['logits'],
): Promise<Decoding> {
  const counts = lengthsOf(batch);
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
