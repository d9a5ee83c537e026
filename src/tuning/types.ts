/** The contract between a tuning worker and the training it runs. */
import type { Disk } from '../artifacts/disk.ts';
import type { JobCheckpoint, JobEvent, JobResult, JobSpec, Progress } from '../jobs/contract.ts';
import type { Device, OpenLm } from '../lm/types.ts';
import type { ModelManifest } from '../models/manifest.ts';
import type { OpenEncoder } from '../prompts/types.ts';
import type { TuningData } from './data.ts';

export interface TuningJob {
  spec: JobSpec;
  /** Raised by each worker that takes the job. */
  attempt: number;
  model: ModelManifest;
  /** Absolute paths. */
  files: { train: string; dev: string | null; test: string | null; allowedWords: string | null };
  /** <data>/jobs/<id>; checkpoints are kept in its folder `checkpoint`. */
  directory: string;
  /** <data>/artifacts */
  artifacts: string;
  threads: number;
  device: Device;
  /** Bytes of keys and values of rows' contexts that are kept from step to step; see src/lm/contexts.ts. */
  contextBytes: number;
  /** At most this many seconds of training pass between two checkpoints. */
  checkpointSeconds: number;
}

/**
 * How a training run speaks to its worker. Events and checkpoints after the last saved state are told again by the
 * attempt that goes on from there; their `step` tells them apart.
 */
export interface TuningHooks {
  progress(progress: Progress): void;
  event(event: Pick<JobEvent, 'level' | 'type' | 'message' | 'data'>): void;
  checkpoint(checkpoint: Omit<JobCheckpoint, 'id'>): void;
  /** A published checkpoint was removed, because newer or better ones took its place. */
  checkpointRemoved?(model: string): void;
  /** Called at every batch, trained or scored. */
  heartbeat(): void;
  /** Asked at every batch. `hand-back`: save everything and stop; `cancel`: stop. */
  stopRequested(): 'cancel' | 'hand-back' | null;
}

/** `stopped`: the hook asked for it, after `step` updates. */
export type TuningOutcome = { kind: 'succeeded'; result: JobResult } | { kind: 'stopped'; step: number };

/** The parts a run is made of; tests give their own. */
export interface TuningDependencies {
  openLm: OpenLm;
  openEncoder: OpenEncoder;
  loadData(job: TuningJob): Promise<TuningData>;
  /** Milliseconds that only grow. */
  now(): number;
  /** Where checkpoints are written; the file system unless a test makes it fail. */
  disk?: Disk;
}
