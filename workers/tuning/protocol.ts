/** What a tuning worker and its training child say to each other. A child may train several jobs, also at once. */
import type { FailureRecord } from '../../src/errors.ts';
import type { JobCheckpoint, JobEvent, Progress } from '../../src/jobs/contract.ts';
import type { TuningJob, TuningOutcome } from '../../src/tuning/types.ts';

export type StopReason = 'cancel' | 'hand-back';

export type ToChild =
  | { type: 'start'; job: TuningJob }
  /** `job` is the id of one that was started. */
  | { type: 'stop'; job: string; reason: StopReason }
  /** There is nothing more to do; sent only when no job runs. */
  | { type: 'end' };

/** What a child tells of a job. */
export type Told =
  /** At once, so that its worker knows that the child lives. */
  | { type: 'started' }
  | { type: 'progress'; progress: Progress }
  | { type: 'event'; event: Pick<JobEvent, 'level' | 'type' | 'message' | 'data'> }
  | { type: 'checkpoint'; checkpoint: Omit<JobCheckpoint, 'id'> }
  | { type: 'checkpoint-removed'; model: string }
  | { type: 'heartbeat' }
  /** The last message of a job; `memory` is the child's resident set in bytes. */
  | { type: 'outcome'; outcome: TuningOutcome; memory: number }
  | { type: 'failed'; error: FailureRecord; memory: number };

export type FromChild = Told & { job: string };
