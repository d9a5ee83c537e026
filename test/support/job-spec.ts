/** A job as the API would hand it to the queue. */
import { randomBytes } from 'node:crypto';
import type { JobResult, JobSpec, Progress } from '../../src/jobs/contract.ts';

export const trainingFile = 'file-000000000000000000000001';

export function jobSpec(changes: Partial<JobSpec> = {}): JobSpec {
  const id = changes.id ?? `ftjob-${randomBytes(12).toString('hex')}`;
  return {
    id,
    owner: 'local',
    createdAt: Math.floor(Date.now() / 1000),
    model: 'demo-masked',
    modelHash: 'hash-of-demo-masked',
    trainingFile,
    validationFile: null,
    testFile: null,
    suffix: null,
    seed: 34,
    metadata: {},
    method: {
      type: 'p_tuning',
      template: [{ virtual: 3 }, { field: 'sub_label' }, { target: 'obj_label' }],
      encoder: { type: 'lstm', layers: 2 },
      task: { type: 'cloze', metric: 'p_at_1' },
      hyperparameters: {
        preset: 'auto',
        learning_rate: 0.001,
        n_epochs: 1,
        batch_size: 8,
        max_steps: null,
        optimizer: 'adam',
        weight_decay: 0,
        schedule: 'constant',
        gamma: 1,
        warmup_ratio: 0,
        gradient_clip: null,
        evaluate_every: 'epoch',
        patience: 5,
        drop_last: false,
        group_by_length: false,
      },
    },
    fineTunedModel: `ft:demo-masked:local::${id}`,
    ...changes,
  };
}

export function jobProgress(step: number): Progress {
  return {
    step,
    totalSteps: 100,
    epoch: 0,
    loss: 1,
    learningRate: 0.001,
    metric: 'p_at_1',
    devMetric: null,
    bestDevMetric: null,
    secondsPerStep: 0.1,
    secondsLeft: 10,
    trainedTokens: step * 8,
  };
}

export function jobResult(): JobResult {
  const rows = { used: 8, shortened: 0, dropped: 0 };
  return {
    manual: null,
    tuned: { dev: { p_at_1: 0.5 }, test: null },
    bestStep: 50,
    steps: 100,
    secondsPerStep: 0.1,
    seconds: 10,
    rows: { train: rows, dev: rows, test: rows },
    promptSha256: '0'.repeat(64),
  };
}
