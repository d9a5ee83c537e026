/** How a prompt learns from a batch: by gradient steps on its encoder, or by a search for words. */
import type { ResolvedHyperparameters } from '../jobs/hyperparameters.ts';
import type { LmBatch, Trainer } from '../lm/types.ts';
import type { PromptEncoder } from '../prompts/types.ts';
import { startLossScale } from './loss-scale.ts';
import { createOptimizer } from './optimizers/registry.ts';
import type { Plan } from './plan.ts';
import type { TrainingState } from './state.ts';
import { trainStep } from './step.ts';

/** One step on a batch, which changes the state's parameters. Returns the loss before it and how many jobs shared the LM's step. */
export type LearningStep = (batch: LmBatch, labels: BigInt64Array) => Promise<{ loss: number; jobs: number }>;

/** The steps of a run over `state`; `beforeBatch` is called before further batches that a step runs, and may throw. */
export type Learn = (state: TrainingState, plan: Plan, beforeBatch: () => void) => LearningStep;

export function learnByGradient(
  parts: { encoder: PromptEncoder; trainer: Trainer },
  options: ResolvedHyperparameters,
): Learn {
  return (state, plan) => {
    if (parts.trainer.half) state.lossScale ??= startLossScale();
    const optimizer = createOptimizer(options.optimizer, state.optimizer, { weightDecay: options.weight_decay });
    return (batch, labels) =>
      trainStep({ ...parts, optimizer }, state.parameters, batch, labels, {
        learningRate: plan.learningRateAt(state.step),
        gradientClip: options.gradient_clip,
        lossScale: state.lossScale,
      });
  };
}
