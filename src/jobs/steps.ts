/** How many updates a run makes: used before it, to choose and describe, and by the run itself. */
import type { ResolvedLength } from './hyperparameters.ts';

/** Updates an epoch makes; a partial batch counts unless dropped, and an epoch is never empty. */
export function countStepsPerEpoch(rows: number, batchSize: number, dropLast: boolean): number {
  return Math.max(1, dropLast ? Math.floor(rows / batchSize) : Math.ceil(rows / batchSize));
}

/** Updates of a whole run without early stopping. */
export function countTotalSteps(options: ResolvedLength, rows: number): number {
  const steps = options.n_epochs * countStepsPerEpoch(rows, options.batch_size, options.drop_last);
  return Math.min(steps, options.max_steps ?? steps);
}
