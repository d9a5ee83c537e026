/** What is measured beside training: the manual prompt before it, dev during it, test once after it. */
import { PtunedError } from '../errors.ts';
import type { JobResult, Metrics } from '../jobs/contract.ts';
import { observe } from './early-stopping.ts';
import { hashTable } from './publish.ts';
import { pulse, type Run } from './running.ts';
import { copyParameters } from './state.ts';
import { lossNotFinite } from './step.ts';

/** Checkpoint models kept beside the best one. */
const keptCheckpoints = 3;

/** Scores the manual prompt on dev, where the template names one. */
export async function scoreManualPrompt({ hooks, session, state }: Run): Promise<void> {
  if (session.data.manual === null || state.manualDev !== null) return;
  state.manualDev = await session.score('manualDev', null, () => pulse(hooks));
  hooks.event({
    level: 'info',
    type: 'message',
    message: `Manual prompt on dev: ${listMetrics(state.manualDev)}`,
    data: { manual: state.manualDev },
  });
}

/**
 * Scores dev, remembers the best, publishes the folded table (not that of the untrained prompt).
 * Throws loss_not_finite when the LM's answers are no longer numbers.
 */
export async function evaluateStep(run: Run): Promise<void> {
  const { job, hooks, session, state, plan } = run;
  const table = await session.encoder.forward(state.parameters);
  const metrics = await session.score('dev', table, () => pulse(hooks));
  const learningRate = plan.learningRateAt(state.step);
  if (!Number.isFinite(metrics.loss)) throw lossNotFinite('dev loss', metrics.loss!, state.step, learningRate);
  const score = metrics[job.spec.method.task.metric]!;
  state.stopping = observe(state.stopping, state.step, { score, loss: metrics.loss! });
  if (state.stopping.bestStep === state.step) {
    state.best = { step: state.step, parameters: copyParameters(state.parameters), table: table.slice(), metrics };
  }
  const { loss, ...rest } = metrics;
  const told: Metrics = {
    ...(state.lossCount === 0 ? {} : { train_loss: state.lossSum / state.lossCount }),
    valid_loss: loss!,
    ...rest,
  };
  state.devMetrics = metrics;
  state.evaluatedStep = state.step;
  state.lossSum = 0;
  state.lossCount = 0;
  const words = session.words(state.parameters);
  hooks.event({
    level: 'info',
    type: 'metrics',
    message: `Step ${state.step}/${plan.totalSteps}: ${listMetrics(told)}${words === null ? '' : `, words: ${words.join(' ')}`}`,
    data: {
      step: state.step,
      epoch: plan.batchAt(state.step).epoch,
      learning_rate: learningRate,
      ...told,
      ...(words === null ? {} : { words }),
    },
  });
  if (state.step > 0) await publishCheckpoint(run, table, told);
}

/** Keeps the best and the last few; a store that fails costs the checkpoint, not the run. */
async function publishCheckpoint(
  { hooks, publisher, checkpoints, state }: Run,
  table: Float32Array,
  metrics: Metrics,
): Promise<void> {
  try {
    await checkpoints.checkNewest();
    const model = await publisher.publishCheckpoint(state.step, table, metrics);
    hooks.checkpoint({ model, step: state.step, createdAt: Math.floor(Date.now() / 1000), metrics });
    const steps = [...state.published.filter((step) => step < state.step), state.step];
    const recent = steps.slice(-keptCheckpoints);
    state.published = steps.filter((step) => recent.includes(step) || step === state.stopping.bestStep);
    for (const step of steps) {
      if (!state.published.includes(step)) hooks.checkpointRemoved?.(await publisher.removeCheckpoint(step));
    }
  } catch (error) {
    if (!(error instanceof PtunedError && error.code === 'storage_unavailable')) throw error;
    hooks.event({
      level: 'warn',
      type: 'message',
      message: `The checkpoint model of step ${state.step} could not be stored: ${error.message}`,
      data: { step: state.step },
    });
  }
}

/** The table of the job: best dev checkpoint and manual prompt, and test for both, which nothing before has seen. */
export async function measureResult({ hooks, session, state, elapsed }: Run): Promise<JobResult> {
  const best = state.best!;
  const beforeBatch = () => pulse(hooks);
  const hasTest = session.data.test !== null;
  const test = hasTest ? await session.score('test', best.table, beforeBatch) : null;
  const { manualDev } = state;
  const words = session.words(best.parameters);
  const manualTest = hasTest && manualDev !== null ? await session.score('manualTest', null, beforeBatch) : null;
  return {
    manual: manualDev === null ? null : { dev: manualDev, test: manualTest },
    tuned: { dev: best.metrics, test },
    bestStep: best.step,
    steps: state.step,
    secondsPerStep: state.step === 0 ? 0 : state.stepSeconds / state.step,
    seconds: elapsed(),
    rows: session.data.rows,
    promptSha256: hashTable(best.table),
    ...(words === null ? {} : { words }),
  };
}

export function listMetrics(metrics: Metrics): string {
  return Object.entries(metrics)
    .map(([name, value]) => `${name} ${value.toFixed(4)}`)
    .join(', ');
}
