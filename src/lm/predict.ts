/** Logits at targets, and generation for causal LMs, with the export's key/value cache where it has one. */
import { PtunedError } from '../errors.ts';
import { hasCache } from '../models/past.ts';
import type { SessionOptions } from '../onnx/session.ts';
import { answering, decodeAnswers } from './answer.ts';
import { countsPositions, decodeWithCache, openCached } from './cache.ts';
import type { Inspected } from './inspect.ts';
import { predictProgram } from './programs.ts';
import { decodeByRepeating, lastOf, padded } from './repeat.ts';
import { lengthsOf } from './rows.ts';
import { batchFeeds, openProgram } from './run-program.ts';
import { createStarts, keepsLogits } from './starts.ts';
import type { Decoding, LmBatch, Predictor, PromptTable } from './types.ts';

export interface PredictorOptions extends SessionOptions {
  /** Bytes of keys and values kept of what rows begin with; default 0. */
  keptBytes?: number;
}

export function createPredictor(lm: Inspected, options: PredictorOptions): Promise<Predictor> {
  const goesOn = lm.config.kind === 'causal' && hasCache(lm.inputs, countsPositions(lm.model.graph));
  return goesOn ? createCachedPredictor(lm, options) : createWholePredictor(lm, options);
}

/** Every run may go on from keys and values, so that one session serves all. */
async function createCachedPredictor(lm: Inspected, options: PredictorOptions): Promise<Predictor> {
  const session = await openCached(lm, options);
  const { keptBytes = 0 } = options;
  const keeps = keptBytes > 0 && lm.redundant === 'prefixes' && (await keepsLogits(session, lm.embedding.width));
  const starts = createStarts(session, keeps ? keptBytes : 0);
  return {
    async logits(given, table) {
      const { batch, start } = await starts.of(given, table);
      return (await session.run(batch, table, start, 'logits')).logits;
    },
    async decode(given, table) {
      const targets = BigInt64Array.from(lengthsOf(given), (count) => BigInt(count - 1));
      const { batch, start } = await starts.of({ ...given, targets }, table);
      return decodeWithCache(session, batch, table, start);
    },
    close: session.close,
  };
}

/** Every run reads whole rows. */
async function createWholePredictor(lm: Inspected, options: SessionOptions): Promise<Predictor> {
  const runner = await openProgram(predictProgram(lm), options);
  const logits = async (batch: LmBatch, table: PromptTable) =>
    (await runner.run(batchFeeds(batch, table)))[0] as Float32Array;
  return {
    logits,
    async decode(batch, table) {
      if (batch.decoder !== undefined) return decodeAnswers(batch, answering(logits, batch, table));
      if (lm.config.kind === 'causal') return decodeWhole(batch, table, logits);
      throw new PtunedError(
        'wrong_model_kind',
        'A masked LM does not generate text; a causal or encoder-decoder LM is needed.',
      );
    },
    close: runner.close,
  };
}

function decodeWhole(batch: LmBatch, table: PromptTable, logitsOf: Predictor['logits']): Promise<Decoding> {
  const rowOf = (values: BigInt64Array, row: number, count: number) => [
    ...values.subarray(row * batch.length, row * batch.length + count),
  ];
  const begun = lengthsOf(batch).map((count, row) => rowOf(batch.ids, row, count));
  return decodeByRepeating(begun, (sequences) => {
    const { length, ids } = padded(sequences);
    const next: LmBatch = {
      ...{ rows: sequences.length, length, ids, targets: lastOf(sequences) },
      mask: new BigInt64Array(ids.length),
      slots: new BigInt64Array(ids.length).fill(-1n),
    };
    for (const [i, one] of sequences.entries()) {
      next.slots.set(rowOf(batch.slots, one.row, begun[one.row]!.length), i * length);
      next.mask.fill(1n, i * length, i * length + one.ids.length);
    }
    return logitsOf(next, table);
  });
}
