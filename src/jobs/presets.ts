/** What each preset chooses for every hyperparameter, given the size of the data. One record a preset. */
import type { ResolvedHyperparameters, ResolvedLength } from './hyperparameters.ts';

export type PresetName = ResolvedHyperparameters['preset'];

export interface Sizes {
  /** Rows that will be trained on. */
  trainRows: number;
  devRows: number;
  batchSize: number;
  stepsPerEpoch: number;
}

/** What is trained: an encoder's weights, rows that stand among word embeddings, or keys and values themselves. */
export type RateName = 'encoder' | 'rows' | 'keys_and_values';

export interface Preset {
  batchSize(trainRows: number): number;
  learningRates: Readonly<Record<RateName, number>>;
  choose(sizes: Sizes): Omit<ResolvedHyperparameters, 'preset' | 'batch_size' | 'learning_rate'>;
}

const sameRate = (rate: number): Preset['learningRates'] => ({ encoder: rate, rows: rate, keys_and_values: rate });

/** Steps `auto` aims at: small prompts on small data are trained by then (p-tuning.md: 6 to 14 epochs of 50). */
const autoSteps = 450;
/** More data than this many steps at five epochs is seen in part; early stopping usually ends sooner. */
const autoMostSteps = 6000;
/** Steps without a gain after which `auto` gives up. */
const autoPatienceSteps = 250;

const auto: Preset = {
  batchSize: (trainRows) => Math.min(trainRows, trainRows < 128 ? 8 : 16),
  learningRates: { encoder: 1e-3, rows: 1e-2, keys_and_values: 3e-2 },
  choose({ devRows, batchSize, stepsPerEpoch }) {
    const epochs = Math.max(5, Math.ceil(autoSteps / stepsPerEpoch));
    const totalSteps = Math.min(epochs * stepsPerEpoch, autoMostSteps);
    const interval = autoInterval(stepsPerEpoch, Math.ceil(devRows / batchSize), totalSteps);
    return {
      n_epochs: epochs,
      max_steps: epochs * stepsPerEpoch > totalSteps ? totalSteps : null,
      optimizer: 'adam',
      weight_decay: 5e-4,
      schedule: 'exponential',
      // With few rows an epoch is a handful of steps: the rate still ends at a tenth, not at nothing.
      gamma: Math.max(0.98, roundTo(0.1 ** (1 / epochs), 4)),
      warmup_ratio: 0,
      gradient_clip: null,
      evaluate_every: interval,
      patience: Math.max(5, Math.ceil(autoPatienceSteps / (interval === 'epoch' ? stepsPerEpoch : interval))),
      drop_last: false,
      group_by_length: false,
    };
  },
};

/**
 * Every 20 to 60 steps, at epoch ends where these fit. A big dev set is scored less often, so that scoring costs less
 * than training, but at least eight times.
 */
function autoInterval(stepsPerEpoch: number, devBatches: number, totalSteps: number): 'epoch' | number {
  const rarest = Math.max(50, Math.min(devBatches, Math.ceil(totalSteps / 8)));
  if (stepsPerEpoch >= Math.max(20, Math.min(devBatches, rarest)) && stepsPerEpoch <= Math.max(60, rarest)) {
    return 'epoch';
  }
  return Math.max(20, Math.min(stepsPerEpoch, 50), Math.min(devBatches, rarest));
}

/** The paper's LAMA code (p-tuning.md), with its three faults corrected. */
const lama: Preset = {
  batchSize: (trainRows) => Math.min(trainRows, 8),
  learningRates: sameRate(1e-5),
  choose: () => ({
    n_epochs: 100,
    max_steps: null,
    optimizer: 'adam',
    weight_decay: 5e-4,
    schedule: 'exponential',
    gamma: 0.98,
    warmup_ratio: 0,
    gradient_clip: null,
    evaluate_every: 'epoch',
    patience: 20,
    drop_last: true,
    group_by_length: false,
  }),
};

/** The paper's few-shot SuperGLUE code, as far as it concerns the prompt (the LM stays frozen here). */
const fewShot: Preset = {
  batchSize: (trainRows) => Math.min(trainRows, 16),
  learningRates: sameRate(1e-4),
  choose: ({ stepsPerEpoch }) => ({
    n_epochs: Math.ceil(250 / stepsPerEpoch),
    max_steps: 250,
    optimizer: 'adamw',
    weight_decay: 0,
    schedule: 'linear',
    gamma: 0.98,
    warmup_ratio: 0,
    gradient_clip: 1,
    evaluate_every: 20,
    patience: 10,
    drop_last: false,
    group_by_length: false,
  }),
};

export const presets: Record<PresetName, Preset> = { auto, lama, 'few-shot': fewShot };

/** Steps of a search: each tries many tokens in one place, and scores dev as training does. */
const searchSteps = 100;
const searchInterval = 10;

/** A search's length: every ten steps dev is scored, and after half of all steps without a gain it ends. */
export function searchLength({ stepsPerEpoch }: Sizes): Omit<ResolvedLength, 'preset' | 'batch_size'> {
  return {
    n_epochs: Math.ceil(searchSteps / stepsPerEpoch),
    max_steps: searchSteps,
    evaluate_every: searchInterval,
    patience: searchSteps / searchInterval / 2,
    drop_last: false,
    group_by_length: false,
  };
}

function roundTo(value: number, digits: number): number {
  return Number(value.toFixed(digits));
}
