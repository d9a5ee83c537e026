/** One training step: encoder, LM forward and backward, encoder backward, clipping, update. */
import { PtunedError } from '../errors.ts';
import type { LmBatch, Trainer } from '../lm/types.ts';
import type { Parameters, PromptEncoder } from '../prompts/types.ts';
import { clipByNorm, globalNorm } from './clip.ts';
import { type LossScale, scaledWeights, unscale } from './loss-scale.ts';
import type { Optimizer } from './optimizers/registry.ts';

export interface StepParts {
  trainer: Trainer;
  encoder: PromptEncoder;
  optimizer: Optimizer;
}

export interface StepOptions {
  learningRate: number;
  /** Largest gradient norm, or null for no clipping. */
  gradientClip: number | null;
  /** Of an LM that computes in float16; moved on by each step. */
  lossScale?: LossScale | null;
}

/**
 * Updates `parameters` in place from one batch. Returns the mean cross-entropy before the update, the gradient's norm
 * before clipping (0 for a step left out because the scaled gradient overflowed), and how many jobs shared the LM's step.
 * Throws loss_not_finite when loss or norm is NaN or infinite; nothing is updated then.
 */
export async function trainStep(
  { trainer, encoder, optimizer }: StepParts,
  parameters: Parameters,
  batch: LmBatch,
  labels: BigInt64Array,
  { learningRate, gradientClip, lossScale = null }: StepOptions,
): Promise<{ loss: number; gradientNorm: number; jobs: number }> {
  const { virtualTokens: rows, width } = encoder.shape;
  const step = optimizer.state.step + 1;
  const values = await encoder.forward(parameters);
  const weights = lossScale === null ? undefined : scaledWeights(lossScale, batch.rows);
  const { loss, gradient, jobs = 1 } = await trainer.step(batch, labels, { rows, width, values }, weights);
  if (!Number.isFinite(loss)) throw lossNotFinite('training loss', loss, step, learningRate);
  if (lossScale !== null && !unscale(lossScale, gradient)) return { loss, gradientNorm: 0, jobs };
  const gradients = await encoder.gradient(parameters, gradient);
  const gradientNorm = gradientClip === null ? globalNorm(gradients) : clipByNorm(gradients, gradientClip);
  if (!Number.isFinite(gradientNorm)) throw lossNotFinite('gradient norm', gradientNorm, step, learningRate);
  optimizer.update(parameters, gradients, learningRate);
  return { loss, gradientNorm, jobs };
}

/** The failure of a run whose numbers are no longer finite. */
export function lossNotFinite(what: string, value: number, step: number, learningRate: number): PtunedError {
  return new PtunedError(
    'loss_not_finite',
    `The ${what} became ${value} at step ${step} with learning rate ${learningRate}. ` +
      'The last good checkpoint is kept; try a lower learning rate or gradient clipping.',
    { param: 'learning_rate', details: { step, learning_rate: learningRate } },
  );
}
