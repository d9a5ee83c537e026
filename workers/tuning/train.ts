/** One attempt at a job: a place in a training child, what it tells, and when it has to stop. */
import { toFailureRecord } from '../../src/errors.ts';
import type { Attempt } from '../../src/jobs/attempts.ts';
import type { Logger } from '../../src/logger.ts';
import { repeat } from '../repeat.ts';
import type { ChildOutcome, TrainingJob } from './child.ts';
import { type InputConfig, resolveInputs } from './inputs.ts';
import type { Place } from './pool.ts';
import type { Told } from './protocol.ts';

export interface TrainOptions {
  config: InputConfig;
  place: Place;
  /** Those that run now; a closing worker stops them. */
  running: Set<TrainingJob>;
  closing: AbortSignal;
  log: Logger;
}

/** How long a child may take to stop, by why it is asked to. */
export const patience = { lost: 5000, closing: 7000, paused: 60_000 };
/** How often a worker looks whether its job was cancelled, paused or taken by another. */
const lookMilliseconds = 500;

/** Never rejects. The place is left when it ends. */
export async function trainInChild(attempt: Attempt, options: TrainOptions): Promise<ChildOutcome> {
  const { config, place, running, closing, log } = options;
  let training: TrainingJob;
  try {
    const job = await resolveInputs(config, attempt.spec, attempt.number);
    if (closing.aborted) {
      place.leave();
      return { kind: 'stopped', isClean: true };
    }
    training = place.train(job, (told) => pass(attempt, told));
  } catch (error) {
    place.leave();
    return { kind: 'failed', error: toFailureRecord(error) };
  }
  running.add(training);
  const stopLooking = look(attempt, training, log);
  const outcome = await training.outcome;
  stopLooking();
  running.delete(training);
  return outcome;
}

function pass(attempt: Attempt, told: Told): void {
  if (told.type === 'progress') attempt.progress(told.progress);
  if (told.type === 'event') attempt.event(told.event);
  if (told.type === 'checkpoint') attempt.checkpoint(told.checkpoint);
  if (told.type === 'checkpoint-removed') attempt.checkpointRemoved(told.model);
}

/** Stops the training when its job is no longer to be trained here. */
function look(attempt: Attempt, training: TrainingJob, log: Logger): () => void {
  let isStopping = false;
  return repeat(lookMilliseconds, async () => {
    // While Redis is away, training goes on.
    const standing = await attempt.standing().catch(() => 'running');
    if (isStopping || standing === 'running' || standing === 'queued' || standing === 'missing') return;
    isStopping = true;
    log.info({ standing }, 'training is stopped');
    if (standing === 'paused') training.stop('hand-back', patience.paused);
    else training.stop('cancel', patience.lost);
  });
}
