/** What happens at which step, all of it a pure function of the step: a resumed run asks the same questions again. */
import type { ResolvedHyperparameters, ResolvedLength } from '../jobs/hyperparameters.ts';
import { countStepsPerEpoch, countTotalSteps } from '../jobs/steps.ts';
import { learningRateAt } from './schedule.ts';

export interface Plan {
  readonly stepsPerEpoch: number;
  readonly totalSteps: number;
  /** Epoch and batch within it of the update with this index (0 is the first). */
  batchAt(step: number): { epoch: number; batch: number };
  /** Learning rate of the update with this index; 0 where there is none, in a search. */
  learningRateAt(step: number): number;
  /** Whether dev is scored after so many updates: at the start, at every interval, and at the end. */
  isEvaluatedAfter(step: number): boolean;
  /** Evaluations still to come after so many updates, early stopping aside. */
  evaluationsLeft(step: number): number;
}

export function createPlan(options: ResolvedHyperparameters | ResolvedLength, trainRows: number): Plan {
  const stepsPerEpoch = countStepsPerEpoch(trainRows, options.batch_size, options.drop_last);
  const totalSteps = countTotalSteps(options, trainRows);
  const interval = options.evaluate_every === 'epoch' ? stepsPerEpoch : options.evaluate_every;
  return {
    stepsPerEpoch,
    totalSteps,
    batchAt: (step) => ({ epoch: Math.floor(step / stepsPerEpoch), batch: step % stepsPerEpoch }),
    learningRateAt: (step) =>
      'learning_rate' in options ? learningRateAt(step, options, { totalSteps, stepsPerEpoch }) : 0,
    isEvaluatedAfter: (step) => step % interval === 0 || step === totalSteps,
    evaluationsLeft: (step) => (step < totalSteps ? Math.ceil(totalSteps / interval) - Math.floor(step / interval) : 0),
  };
}
