/** The learning rate as a pure function of the step, so that a resumed run needs no scheduler state. */
import type { ResolvedHyperparameters } from '../jobs/hyperparameters.ts';

export interface ScheduleShape {
  totalSteps: number;
  stepsPerEpoch: number;
}

type ScheduleOptions = Pick<ResolvedHyperparameters, 'learning_rate' | 'schedule' | 'gamma' | 'warmup_ratio'>;
type Decay = (step: number, warmupSteps: number, options: ScheduleOptions, shape: ScheduleShape) => number;

const decays: Record<ResolvedHyperparameters['schedule'], Decay> = {
  // torch.optim.lr_scheduler.ExponentialLR stepped once an epoch.
  exponential: (step, _warmup, { gamma }, { stepsPerEpoch }) => gamma ** Math.floor(step / stepsPerEpoch),
  // As transformers.get_linear_schedule_with_warmup: it would reach 0 at the step after the last.
  linear: (step, warmup, _options, { totalSteps }) =>
    Math.max(0, (totalSteps - step) / Math.max(1, totalSteps - warmup)),
  constant: () => 1,
};

/**
 * Learning rate of the update with index `step` (0 is the first). Warm-up rises linearly over
 * ceil(warmup_ratio · totalSteps) updates and reaches the full rate at the last of them; no update has rate 0.
 */
export function learningRateAt(step: number, options: ScheduleOptions, shape: ScheduleShape): number {
  const warmupSteps = Math.ceil(options.warmup_ratio * shape.totalSteps);
  const warm = step < warmupSteps ? (step + 1) / warmupSteps : 1;
  const decay =
    step < warmupSteps && options.schedule === 'linear'
      ? 1
      : decays[options.schedule](step, warmupSteps, options, shape);
  return options.learning_rate * warm * decay;
}
