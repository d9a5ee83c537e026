/** Keeps the best evaluation and says when to stop. The untrained prompt is the first evaluation, so it can win. */

export interface EarlyStopping {
  /** Score of the untrained prompt (step 0), or null before it was evaluated. */
  baseline: number | null;
  /** Highest score so far, and the step and dev loss of the evaluation that is kept for it. */
  best: number | null;
  bestStep: number;
  bestLoss: number;
  /** Evaluations since the score last rose. */
  sinceBest: number;
}

export function startEarlyStopping(): EarlyStopping {
  return { baseline: null, best: null, bestStep: 0, bestLoss: Number.MAX_VALUE, sinceBest: 0 };
}

/**
 * The state after an evaluation. Only a strictly higher score counts as a gain and restarts the patience. Of equal
 * scores, common on a small dev set, the one with the lower dev loss is kept; of equal losses the earlier.
 */
export function observe(
  state: EarlyStopping,
  step: number,
  { score, loss }: { score: number; loss: number },
): EarlyStopping {
  const baseline = state.baseline ?? score;
  const kept = { baseline, best: score, bestStep: step, bestLoss: loss };
  if (state.best === null || score > state.best) return { ...kept, sinceBest: 0 };
  const sinceBest = state.sinceBest + 1;
  return score === state.best && loss < state.bestLoss ? { ...kept, sinceBest } : { ...state, sinceBest };
}

/** True once `patience` evaluations in a row brought no gain. */
export function isExhausted(state: EarlyStopping, patience: number): boolean {
  return state.sinceBest >= patience;
}
