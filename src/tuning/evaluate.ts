/** Scores a prompt table on dev or test, in bigger batches than training's, rows of like length together. */
import { padBatch } from '../data/batches.ts';
import type { Metrics } from '../jobs/contract.ts';
import type { LmBatch, PromptTable, Scorer } from '../lm/types.ts';
import type { Scores } from '../tasks/metrics.ts';
import type { RenderedRow } from '../tasks/types.ts';

/** Rows in the order they are scored, in padded batches. */
export interface EvaluationSet {
  batches: { batch: LmBatch; labels: BigInt64Array }[];
  /** Right candidate of each row, in the order of the batches. */
  labels: Int32Array;
}

/** Tokens and rows of an evaluation batch: enough to keep the LM busy, little enough to fit beside training. */
const mostTokens = 2048;
const mostRows = 128;

/** Sorts by length (stable, so the same rows always make the same batches) and pads each batch to its longest row. */
export function arrangeEvaluation(rows: readonly RenderedRow[], pad: number): EvaluationSet {
  const sorted = [...rows].sort((a, b) => a.ids.length - b.ids.length);
  const batches: EvaluationSet['batches'] = [];
  for (let start = 0; start < sorted.length; ) {
    let end = start + 1;
    while (end < sorted.length && end - start < mostRows && sorted[end]!.ids.length * (end - start + 1) <= mostTokens) {
      end++;
    }
    batches.push(padBatch(sorted.slice(start, end), pad));
    start = end;
  }
  return { batches, labels: Int32Array.from(sorted, (row) => row.label) };
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
