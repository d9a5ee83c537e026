/** Everything a training run knows at a step. What is here is in the checkpoint; what is not can be computed again. */
import type { Metrics } from '../jobs/contract.ts';
import type { Parameters } from '../prompts/types.ts';
import { type EarlyStopping, startEarlyStopping } from './early-stopping.ts';
import type { LossScale } from './loss-scale.ts';
import { initialOptimizerState, type OptimizerState } from './optimizers/registry.ts';
import type { TuningJob } from './types.ts';

/** The best evaluation so far, kept in full. */
export interface Best {
  step: number;
  parameters: Parameters;
  /** Folded prompt table [n, H]. */
  table: Float32Array;
  /** Dev metrics. */
  metrics: Metrics;
}

export interface TrainingState {
  /** Threads the run began with. Sums are split among threads, so another number gives other bytes. */
  readonly threads: number;
  /** What the run began with, and whether it pays to keep contexts depends on it; absent in older checkpoints. */
  readonly contextBytes?: number;
  /** Updates made so far; epoch and position in the epoch follow from it. */
  step: number;
  parameters: Parameters;
  optimizer: OptimizerState;
  /** Null where the LM computes in float32. */
  lossScale: LossScale | null;
  stopping: EarlyStopping;
  best: Best | null;
  /** Step of the last evaluation, -1 before the first. */
  evaluatedStep: number;
  /** Dev metrics of the last evaluation and of the manual prompt. */
  devMetrics: Metrics | null;
  manualDev: Metrics | null;
  /** Sum and number of training losses since the last evaluation. */
  lossSum: number;
  lossCount: number;
  /** Tokens of training rows that were read, padding not counted. */
  trainedTokens: number;
  /** Seconds in training steps, and in all (earlier attempts included). */
  stepSeconds: number;
  seconds: number;
  /** Steps whose folded table is kept as a checkpoint model, oldest first. */
  published: number[];
}

/** The state before the first step. Parameters are ordered by name, so that sums over them do not depend on resuming. */
export function initialState(
  initial: Parameters,
  { threads, contextBytes }: Pick<TuningJob, 'threads' | 'contextBytes'>,
): TrainingState {
  const parameters = new Map([...initial].sort(([a], [b]) => (a < b ? -1 : 1)));
  return {
    threads,
    contextBytes,
    step: 0,
    parameters,
    optimizer: initialOptimizerState(parameters),
    lossScale: null,
    stopping: startEarlyStopping(),
    best: null,
    evaluatedStep: -1,
    devMetrics: null,
    manualDev: null,
    lossSum: 0,
    lossCount: 0,
    trainedTokens: 0,
    stepSeconds: 0,
    seconds: 0,
    published: [],
  };
}

/** A copy that later updates do not touch. */
export function copyParameters(parameters: Parameters): Parameters {
  return new Map([...parameters].map(([name, { shape, values }]) => [name, { shape, values: values.slice() }]));
}
