/** Jobs, events and checkpoints as clients see them. */
import type { JobCheckpoint, JobEvent, JobResult, JobSpec, JobState, Progress } from '../jobs/contract.ts';
import { finalStatuses } from '../jobs/contract.ts';
import type { ResolvedMethod } from '../jobs/method.ts';
import type { CheckpointObject, EventObject, JobObject } from './schemas/jobs.ts';

/** The job in OpenAI's form, with the extension fields test_file, progress and result. */
export function jobObject(spec: JobSpec, state: JobState): JobObject {
  const isFinal = finalStatuses.includes(state.status);
  // What a job said last of the time left is no longer so when it does not run.
  const secondsLeft = state.status === 'running' ? (state.progress?.secondsLeft ?? null) : null;
  return {
    id: spec.id,
    object: 'fine_tuning.job',
    created_at: spec.createdAt,
    finished_at: state.finishedAt,
    estimated_finish: secondsLeft === null ? null : Math.ceil(Date.now() / 1000 + secondsLeft),
    status: state.status,
    model: spec.model,
    fine_tuned_model: state.status === 'succeeded' ? spec.fineTunedModel : null,
    organization_id: spec.owner,
    training_file: spec.trainingFile,
    validation_file: spec.validationFile,
    test_file: spec.testFile,
    result_files: [],
    trained_tokens: isFinal ? (state.progress?.trainedTokens ?? 0) : null,
    hyperparameters: { ...spec.method.hyperparameters },
    method: methodObject(spec.method),
    seed: spec.seed,
    metadata: spec.metadata,
    integrations: [],
    error: state.error === null ? null : errorObject(state.error),
    progress: state.progress === null ? null : { ...progressObject(state.progress), seconds_left: secondsLeft },
    result: state.result === null ? null : resultObject(state.result),
  };
}

/** A resolved method in the form in which it is submitted. */
export function methodObject({ type, ...method }: ResolvedMethod): Record<string, unknown> {
  return { type, [type]: method };
}

function errorObject({ code, message, param, details }: NonNullable<JobState['error']>) {
  const hasDetails = details !== undefined && Object.keys(details).length > 0;
  return { code, message, param, ...(hasDetails ? { details } : {}) };
}

function progressObject(progress: Progress): Omit<NonNullable<JobObject['progress']>, 'seconds_left'> {
  return {
    step: progress.step,
    total_steps: progress.totalSteps,
    epoch: progress.epoch,
    loss: progress.loss,
    learning_rate: progress.learningRate,
    metric: progress.metric,
    dev_metric: progress.devMetric,
    best_dev_metric: progress.bestDevMetric,
    seconds_per_step: progress.secondsPerStep,
    trained_tokens: progress.trainedTokens,
    tokens_per_second: progress.tokensPerSecond ?? null,
    packed_jobs: progress.packedJobs ?? 1,
  };
}

function resultObject(result: JobResult): NonNullable<JobObject['result']> {
  return {
    manual: result.manual,
    tuned: result.tuned,
    best_step: result.bestStep,
    steps: result.steps,
    seconds_per_step: result.secondsPerStep,
    seconds: result.seconds,
    rows: result.rows,
    prompt_sha256: result.promptSha256,
    ...(result.words === undefined ? {} : { words: result.words }),
  };
}

export function eventObject(event: JobEvent): EventObject {
  const { id, createdAt, level, type, message, data } = event;
  return { id, object: 'fine_tuning.job.event', created_at: createdAt, level, type, message, data };
}

export function checkpointObject(checkpoint: JobCheckpoint, jobId: string): CheckpointObject {
  return {
    id: checkpoint.id,
    object: 'fine_tuning.job.checkpoint',
    created_at: checkpoint.createdAt,
    fine_tuning_job_id: jobId,
    fine_tuned_model_checkpoint: checkpoint.model,
    step_number: checkpoint.step,
    metrics: { step: checkpoint.step, ...checkpoint.metrics },
  };
}
