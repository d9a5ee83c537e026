/** Scores a prompt table on dev or test, in bigger batches than training's, rows of like length together. */
import { padBatch } from '../data/batches.ts';
import type { Rows } from '../data/compact.ts';
import type { Metrics } from '../jobs/contract.ts';
import type { LmBatch, PromptTable, Scorer } from '../lm/types.ts';
import type { Scores } from '../tasks/metrics.ts';

export interface EvaluationBatch {
  batch: LmBatch;
  labels: BigInt64Array;
}

/** Rows in the order they are scored, in padded batches, which are made when they are read. */
export interface EvaluationSet {
  batches: Iterable<EvaluationBatch>;
  /** Right candidate of each row, in the order of the batches. */
  labels: Int32Array;
}

/** Tokens and rows of an evaluation batch: enough to keep the LM busy, little enough to fit beside training. */
const mostTokens = 4096;
const mostRows = 256;

/** Sorts by length (stable, so the same rows always make the same batches) and pads each batch to its longest row. */
export function arrangeEvaluation(rows: Rows, pad: number): EvaluationSet {
  const lengths = new Int32Array(rows.length);
  const labels = new Int32Array(rows.length);
  for (let i = 0; i < rows.length; i++) {
    const { ids, label } = rows.at(i)!;
    lengths[i] = ids.length;
    labels[i] = label;
  }
  const order = Uint32Array.from(lengths, (_, i) => i).sort((a, b) => lengths[a]! - lengths[b]!);
  return {
    labels: Int32Array.from(order, (i) => labels[i]!),
    batches: {
      *[Symbol.iterator]() {
        for (let start = 0; start < order.length; ) {
          let end = start + 1;
          const fits = () => lengths[order[end]!]! * (end - start + 1) <= mostTokens;
          while (end < order.length && end - start < mostRows && fits()) end++;
          const chosen = Array.from(order.subarray(start, end), (i) => rows.at(i)!);
          yield padBatch(chosen, pad);
          start = end;
        }
      },
    },
  };
}

/**
 * Metrics of the task and `loss`, the mean cross-entropy (NaN where the LM's numbers are). `beforeBatch` is called
 * before each batch and may throw to break off.
 */
export async function evaluate(
  scorer: Scorer,
  { batches, labels }: EvaluationSet,
  table: PromptTable,
  measure: (scores: Scores) => Metrics,
  beforeBatch: () => void,
): Promise<Metrics> {
  const rank = new Int32Array(labels.length);
  const best = new Int32Array(labels.length);
  let lossSum = 0;
  let at = 0;
  for (const { batch, labels: right } of batches) {
    beforeBatch();
    const scores = await scorer.score(batch, right, table);
    rank.set(scores.rank, at);
    best.set(scores.best, at);
    for (const loss of scores.loss) lossSum += loss;
    at += batch.rows;
  }
  return { ...measure({ rank, best, labels }), loss: lossSum / labels.length };
}
