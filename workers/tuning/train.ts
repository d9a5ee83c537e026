/** One attempt at a job: a training child, what it tells, and when it has to stop. */
import type { Config } from '../../src/config.ts';
import { toFailureRecord } from '../../src/errors.ts';
import type { Attempt } from '../../src/jobs/attempts.ts';
import type { Logger } from '../../src/logger.ts';
import { repeat } from '../repeat.ts';
import { type ChildOutcome, startChild, type TrainingChild } from './child.ts';
import { type InputConfig, resolveInputs } from './inputs.ts';
import type { FromChild } from './protocol.ts';

export interface TrainOptions {
  config: InputConfig & Pick<Config, 'stepSeconds'>;
  childScript: string;
  /** Those that run now; a closing worker stops them. */
  children: Set<TrainingChild>;
  closing: AbortSignal;
  log: Logger;
}

/** How long a child may take to stop, by why it is asked to. */
export const patience = { lost: 5000, closing: 7000, paused: 60_000 };
/** How often a worker looks whether its job was cancelled, paused or taken by another. */
const lookMilliseconds = 500;

/** Never rejects. */
export async function trainInChild(attempt: Attempt, options: TrainOptions): Promise<ChildOutcome> {
  const { config, childScript: script, children, closing, log } = options;
  if (closing.aborted) return { kind: 'stopped', isClean: true };
  try {
    const job = await resolveInputs(config, attempt.spec, attempt.number);
    const child = startChild({
      script,
      job,
      stepSeconds: config.stepSeconds,
      onMessage: (told) => pass(attempt, told),
    });
    children.add(child);
    if (closing.aborted) child.stop('hand-back', patience.closing);
    const stopLooking = look(attempt, child, log);
    const outcome = await child.outcome;
    stopLooking();
    children.delete(child);
    return outcome;
  } catch (error) {
    return { kind: 'failed', error: toFailureRecord(error) };
  }
}

function pass(attempt: Attempt, told: FromChild): void {
  if (told.type === 'progress') attempt.progress(told.progress);
  if (told.type === 'event') attempt.event(told.event);
  if (told.type === 'checkpoint') attempt.checkpoint(told.checkpoint);
  if (told.type === 'checkpoint-removed') attempt.checkpointRemoved(told.model);
}

/** Stops the child when its job is no longer to be trained here. */
function look(attempt: Attempt, child: TrainingChild, log: Logger): () => void {
  let isStopping = false;
  return repeat(lookMilliseconds, async () => {
    // While Redis is away, training goes on.
    const standing = await attempt.standing().catch(() => 'running');
    if (isStopping || standing === 'running' || standing === 'queued' || standing === 'missing') return;
    isStopping = true;
    log.info({ standing }, 'training child is stopped');
    if (standing === 'paused') child.stop('hand-back', patience.paused);
    else child.stop('cancel', patience.lost);
  });
}
