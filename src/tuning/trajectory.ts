/** Training on one fixed batch, step for step as in a job: what is compared with another implementation's losses. */
import type { LmBatch, Trainer } from '../lm/types.ts';
import type { Parameters, PromptEncoder } from '../prompts/types.ts';
import { createOptimizer, initialOptimizerState, type OptimizerName } from './optimizers/registry.ts';
import { trainStep } from './step.ts';

export interface TrajectoryOptions {
  steps: number;
  learningRate: number;
  weightDecay: number;
  optimizer?: OptimizerName;
  /** 0.9, 0.999 and 1e-8 unless given. */
  beta1?: number;
  beta2?: number;
  epsilon?: number;
  gradientClip?: number | null;
}

/** Losses [steps], each before its update. `parameters` are trained in place. */
export async function runTrajectory(
  parts: { trainer: Trainer; encoder: PromptEncoder },
  parameters: Parameters,
  batch: LmBatch,
  labels: BigInt64Array,
  { steps, learningRate, optimizer: name = 'adam', gradientClip = null, ...settings }: TrajectoryOptions,
): Promise<number[]> {
  const optimizer = createOptimizer(name, initialOptimizerState(parameters), settings);
  const losses: number[] = [];
  for (let step = 0; step < steps; step++) {
    const options = { learningRate, gradientClip };
    losses.push((await trainStep({ ...parts, optimizer }, parameters, batch, labels, options)).loss);
  }
  return losses;
}
