/** Resolved hyperparameters in words. */
import type { ResolvedHyperparameters, ResolvedLength } from './hyperparameters.ts';
import { countStepsPerEpoch, countTotalSteps } from './steps.ts';

const optimizers: Record<ResolvedHyperparameters['optimizer'], string> = { adam: 'Adam', adamw: 'AdamW' };

const decays: Record<ResolvedHyperparameters['schedule'], (options: ResolvedHyperparameters) => string> = {
  exponential: ({ gamma }) => `times ${gamma} each epoch`,
  linear: () => 'falling linearly to 0',
  constant: () => 'constant',
};

/** One plain sentence on what will be done, for the job's first event and the answer of validate. */
export function describeChoices(options: ResolvedHyperparameters | ResolvedLength, trainRows: number): string {
  const parts = [...('optimizer' in options ? updates(options) : []), ...duration(options, trainRows)];
  return `Preset ${options.preset} on ${trainRows} rows: ${parts.join(', ')}.`;
}

function updates(options: ResolvedHyperparameters): string[] {
  return [
    `${optimizers[options.optimizer]} at learning rate ${options.learning_rate} (${decays[options.schedule](options)})`,
    ...(options.warmup_ratio > 0 ? [`warm-up over ${Math.round(options.warmup_ratio * 100)} % of the steps`] : []),
    `weight decay ${options.weight_decay}`,
    options.gradient_clip === null ? 'no gradient clipping' : `gradients clipped to norm ${options.gradient_clip}`,
  ];
}

function duration(options: ResolvedLength, trainRows: number): string[] {
  const perEpoch = countStepsPerEpoch(trainRows, options.batch_size, options.drop_last);
  const every = options.evaluate_every === 'epoch' ? 'epoch' : `${options.evaluate_every} steps`;
  return [
    `batches of ${options.batch_size}`,
    `at most ${countTotalSteps(options, trainRows)} steps (${perEpoch} an epoch)`,
    `dev scored every ${every}`,
    `stop after ${options.patience} evaluations without a gain`,
  ];
}
