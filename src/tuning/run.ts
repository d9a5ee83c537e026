/** A tuning job from its files to its stored prompt. */
import { join } from 'node:path';
import { sha256 } from '../artifacts/manifest.ts';
import { createArtifactStore } from '../artifacts/store.ts';
import { describeChoices } from '../jobs/describe.ts';
import type { TablePlace } from '../lm/types.ts';
import { type CheckpointStore, createCheckpointStore } from './checkpoint.ts';
import { realDependencies } from './dependencies.ts';
import { train } from './loop.ts';
import { listMetrics, measureResult, scoreManualPrompt } from './milestones.ts';
import { createPlan } from './plan.ts';
import { createPublisher, finishedEarlier } from './publish.ts';
import { type Run, StopRequested, save } from './running.ts';
import { openSession } from './session.ts';
import { initialState, type TrainingState } from './state.ts';
import type { TuningDependencies, TuningHooks, TuningJob, TuningOutcome } from './types.ts';

/**
 * Trains the job's prompt and stores it. Goes on from the newest good checkpoint in the job's folder; on CPU the same
 * job ends in the same bytes however often it was interrupted. Throws PtunedError: loss_not_finite (with step and
 * learning rate), storage_unavailable, conflict when a newer attempt has taken over, and what data or LM refuse.
 */
export async function runTuning(
  job: TuningJob,
  hooks: TuningHooks,
  dependencies: TuningDependencies = realDependencies,
): Promise<TuningOutcome> {
  const { now, disk } = dependencies;
  const begun = now();
  const store = createArtifactStore(job.artifacts);
  const earlier = await finishedEarlier(store, job.spec);
  if (earlier !== null) return { kind: 'succeeded', result: earlier };
  const checkpoints = createCheckpointStore({
    directory: join(job.directory, 'checkpoint'),
    attempt: job.attempt,
    fingerprint: sha256(JSON.stringify(job.spec)),
    disk,
  });
  await checkpoints.claim();
  const saved = await loadCheckpoint(checkpoints, hooks);
  hooks.heartbeat();
  const { threads, contextBytes = job.contextBytes } = saved ?? job;
  const session = await openSession({ ...job, threads, contextBytes }, dependencies);
  try {
    const trainRows = session.data.train.length;
    const options = job.spec.method.hyperparameters;
    const message =
      saved === null ? describeChoices(options, trainRows) : `Going on at step ${saved.step} from a checkpoint.`;
    hooks.event({ level: 'info', type: 'message', message, data: { step: saved?.step ?? 0, attempt: job.attempt } });
    tellContexts(session.place, contextBytes, hooks);
    const state = saved ?? initialState(session.encoder.initialise(job.spec.seed), job);
    const secondsBefore = state.seconds;
    return await trainAndFinish({
      job,
      hooks,
      session,
      plan: createPlan(options, trainRows),
      state,
      checkpoints,
      publisher: createPublisher(store, job, session.encoder.shape, session.data.hashes),
      now,
      elapsed: () => secondsBefore + (now() - begun) / 1000,
    });
  } finally {
    await session.close();
  }
}

/** The newest good checkpoint of this job, or null; says which were damaged. */
async function loadCheckpoint(checkpoints: CheckpointStore, hooks: TuningHooks): Promise<TrainingState | null> {
  const { state, damaged } = await checkpoints.load();
  if (damaged.length > 0) {
    const message = `Damaged checkpoints were thrown away: ${damaged.join(', ')}.`;
    hooks.event({ level: 'warn', type: 'message', message, data: { damaged } });
  }
  return state;
}

function tellContexts(place: TablePlace, contextBytes: number, { event }: TuningHooks): void {
  const megabytes = Math.round(contextBytes / 2 ** 20).toLocaleString('en-US');
  const ways: Partial<Record<TablePlace, string>> = {
    apart: 'computed without a gradient',
    behind: `computed without a gradient, and its keys and values are kept (${megabytes} MiB at most)`,
  };
  const way = ways[place];
  if (way === undefined) return;
  const message = `What rows have before their first pseudo token is ${way}.`;
  event({ level: 'info', type: 'message', message, data: { context_bytes: place === 'behind' ? contextBytes : 0 } });
}

async function trainAndFinish(run: Run): Promise<TuningOutcome> {
  const { hooks, state, publisher } = run;
  try {
    await scoreManualPrompt(run);
    await train(run);
    const result = await measureResult(run);
    await run.checkpoints.checkNewest();
    await publisher.publishResult(state.best!, result);
    if (result.bestStep === 0) {
      const message = 'No evaluation beat the untrained prompt, which is therefore the result.';
      hooks.event({ level: 'warn', type: 'message', message, data: { step: state.step } });
    }
    const { dev, test } = result.tuned;
    hooks.event({
      level: 'info',
      type: 'message',
      message: `Best prompt: step ${result.bestStep}; ${listMetrics(test ?? dev)} on ${test === null ? 'dev' : 'test'}.`,
      data: { step: state.step, best_step: result.bestStep, prompt_sha256: result.promptSha256 },
    });
    return { kind: 'succeeded', result };
  } catch (error) {
    if (!(error instanceof StopRequested)) throw error;
    if (error.how === 'hand-back') await save(run);
    return { kind: 'stopped', step: state.step };
  }
}
