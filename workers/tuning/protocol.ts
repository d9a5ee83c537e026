/** What a tuning worker and its training child say to each other. */
import type { FailureRecord } from '../../src/errors.ts';
import type { JobCheckpoint, JobEvent, Progress } from '../../src/jobs/contract.ts';
import type { TuningJob, TuningOutcome } from '../../src/tuning/types.ts';

export type StopReason = 'cancel' | 'hand-back';

export type ToChild = { type: 'start'; job: TuningJob } | { type: 'stop'; reason: StopReason };

export type FromChild =
  | { type: 'progress'; progress: Progress }
  | { type: 'event'; event: Pick<JobEvent, 'level' | 'type' | 'message' | 'data'> }
  | { type: 'checkpoint'; checkpoint: Omit<JobCheckpoint, 'id'> }
  | { type: 'checkpoint-removed'; model: string }
  | { type: 'heartbeat' }
  | { type: 'outcome'; outcome: TuningOutcome }
  | { type: 'failed'; error: FailureRecord };
