/** What the API and the workers agree on: the job, its states, its events. No behaviour here. */
import type { FailureRecord } from '../errors.ts';
import type { ResolvedMethod } from './method.ts';

/** Immutable once accepted; written to disk (jobs/<id>/job.json) before the job is queued, so that Redis may lose it. */
export interface JobSpec {
  id: string;
  owner: string;
  /** Unix seconds. */
  createdAt: number;
  /** Base LM: registry id, and the hash it had when the job was accepted. */
  model: string;
  modelHash: string;
  trainingFile: string;
  validationFile: string | null;
  testFile: string | null;
  suffix: string | null;
  seed: number;
  metadata: Record<string, string>;
  method: ResolvedMethod;
  /** Id the tuned prompt will have: ft:{base}:{owner}:{suffix}:{id}. */
  fineTunedModel: string;
  /** The request that made it, so that its key holds even when Redis lost everything. */
  idempotency?: { key: string; bodyHash: string };
}

export type JobStatus = 'validating_files' | 'queued' | 'running' | 'paused' | 'succeeded' | 'failed' | 'cancelled';

export const finalStatuses: readonly JobStatus[] = ['succeeded', 'failed', 'cancelled'];

/** Metrics by name; which exist depends on the task (p_at_1, p_at_10, mrr, accuracy, macro_f1, loss). */
export type Metrics = Record<string, number>;

/** One row of the table a user looks at: manual prompt beside the tuned one. */
export interface JobResult {
  /** The template with its `init` words in place of pseudo tokens; null where the template names none. */
  manual: { dev: Metrics; test: Metrics | null } | null;
  tuned: { dev: Metrics; test: Metrics | null };
  bestStep: number;
  steps: number;
  secondsPerStep: number;
  seconds: number;
  /** Rows cut because too long, rows dropped because their target is not one token, by split. */
  rows: Record<'train' | 'dev' | 'test', { used: number; shortened: number; dropped: number }>;
  /** sha256 of the folded prompt table (float32 little-endian). */
  promptSha256: string;
  /** The prompt word by word, where its method chooses words. */
  words?: string[];
}

export interface Progress {
  step: number;
  totalSteps: number;
  epoch: number;
  /** Mean training loss since the last report. */
  loss: number | null;
  learningRate: number;
  /** Name and value of the dev metric at the last evaluation, and the best so far. */
  metric: string;
  devMetric: number | null;
  bestDevMetric: number | null;
  secondsPerStep: number | null;
  secondsLeft: number | null;
  trainedTokens: number;
  /** Tokens of this job's rows that training reads in a second, evaluations aside. */
  tokensPerSecond?: number | null;
  /** Jobs that shared the last step of the LM, this one included. */
  packedJobs?: number;
}

export interface JobState {
  status: JobStatus;
  /** Raised by each worker that takes the job; writes of older attempts are refused. */
  attempt: number;
  startedAt: number | null;
  finishedAt: number | null;
  progress: Progress | null;
  result: JobResult | null;
  error: FailureRecord | null;
}

export interface JobEvent {
  id: string;
  /** Unix seconds. */
  createdAt: number;
  level: 'info' | 'warn' | 'error';
  type: 'message' | 'metrics';
  message: string;
  data: Record<string, unknown>;
}

/** A folded prompt kept at an evaluation; usable as a model under its own id. */
export interface JobCheckpoint {
  id: string;
  model: string;
  step: number;
  createdAt: number;
  metrics: Metrics;
}
