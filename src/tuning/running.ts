/** A run in progress, and what every part of it does: show that it is alive, stop when asked, save its state. */
import { PtunedError } from '../errors.ts';
import type { CheckpointStore } from './checkpoint.ts';
import type { Plan } from './plan.ts';
import type { Publisher } from './publish.ts';
import type { Session } from './session.ts';
import type { TrainingState } from './state.ts';
import type { TuningHooks, TuningJob } from './types.ts';

export interface Run {
  job: TuningJob;
  hooks: TuningHooks;
  session: Session;
  plan: Plan;
  /** Changed in place; between two batches it is always whole, and can be saved. */
  state: TrainingState;
  checkpoints: CheckpointStore;
  publisher: Publisher;
  /** Milliseconds that only grow. */
  now(): number;
  /** Seconds the job has run, earlier attempts included. */
  elapsed(): number;
}

/** Thrown between two batches when the worker asked to stop. */
export class StopRequested extends Error {
  readonly how: 'cancel' | 'hand-back';

  constructor(how: 'cancel' | 'hand-back') {
    super(`stop requested: ${how}`);
    this.how = how;
  }
}

/** Asked before every batch: tells the worker that the run is alive, and obeys it. */
export function pulse(hooks: TuningHooks): void {
  hooks.heartbeat();
  const stop = hooks.stopRequested();
  if (stop !== null) throw new StopRequested(stop);
}

/** Saves the state. A disk that fails costs this checkpoint, not the run; only a newer attempt ends it. */
export async function save({ checkpoints, state, hooks, elapsed }: Run): Promise<void> {
  state.seconds = elapsed();
  try {
    await checkpoints.save(state);
  } catch (error) {
    if (error instanceof PtunedError) throw error;
    hooks.event({
      level: 'warn',
      type: 'message',
      message: `The checkpoint at step ${state.step} could not be written: ${(error as Error).message}`,
      data: { step: state.step },
    });
  }
}
