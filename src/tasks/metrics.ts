/** Metrics from the scores of all rows. Higher is better for each of them. */
import type { MetricName } from './schema.ts';

export interface Scores {
  /** Candidates that score at least as high as the right one, itself not counted; 0 is a hit. */
  rank: Int32Array;
  /** The candidate that scores highest. */
  best: Int32Array;
  /** The right candidate. */
  labels: Int32Array;
}

type Metric = (scores: Scores) => number;

/** Share of rows whose right candidate is among the first k. A negative rank marks scores that were not numbers. */
function precisionAt(k: number): Metric {
  return ({ rank }) => mean(rank, (one) => (one >= 0 && one < k ? 1 : 0));
}

/** Mean of 1 / (rank + 1). */
const meanReciprocalRank: Metric = ({ rank }) => mean(rank, (one) => (one >= 0 ? 1 / (one + 1) : 0));

/**
 * Mean over the labels that occur, as right answer or as guess, of 2·tp / (2·tp + fp + fn). A row is right where its rank
 * says so, as for accuracy: a tie or a score that is no number is wrong even if `best` names the label.
 */
const macroF1: Metric = ({ rank, best, labels }) => {
  const counts = new Map<number, { tp: number; wrong: number }>();
  const of = (label: number) => {
    const found = counts.get(label) ?? { tp: 0, wrong: 0 };
    counts.set(label, found);
    return found;
  };
  for (const [i, label] of labels.entries()) {
    if (rank[i] === 0) of(label).tp++;
    else {
      of(label).wrong++;
      if (rank[i]! > 0 && best[i] !== label) of(best[i]!).wrong++;
    }
  }
  const scores = [...counts.values()].map(({ tp, wrong }) => (2 * tp) / (2 * tp + wrong));
  return scores.length === 0 ? 0 : scores.reduce((sum, one) => sum + one, 0) / scores.length;
};

function mean(values: Int32Array, of: (value: number) => number): number {
  if (values.length === 0) return 0;
  let sum = 0;
  for (const value of values) sum += of(value);
  return sum / values.length;
}

/** How much better `a` is than `b`; a value that is no number is worse than any other. */
export function compareMetric(a: number, b: number): number {
  if (Number.isNaN(a) || Number.isNaN(b)) return Number(Number.isNaN(b)) - Number(Number.isNaN(a));
  return a - b;
}

export const metrics: Readonly<Record<MetricName, Metric>> = {
  p_at_1: precisionAt(1),
  p_at_10: precisionAt(10),
  mrr: meanReciprocalRank,
  accuracy: precisionAt(1),
  macro_f1: macroF1,
};
