/** Training itself, from whatever state it is given to the last step: evaluate, update, save. */
import { epochOrder, padBatch } from '../data/batches.ts';
import type { Rows } from '../data/compact.ts';
import type { ResolvedLength } from '../jobs/hyperparameters.ts';
import type { RenderedRow } from '../tasks/types.ts';
import { isExhausted } from './early-stopping.ts';
import { evaluateStep } from './milestones.ts';
import type { Plan } from './plan.ts';
import { createMeter } from './progress.ts';
import { pulse, type Run, save } from './running.ts';

/** Trains until the last step or until early stopping; `run.state` is changed in place and saved on the way. */
export async function train(run: Run): Promise<void> {
  const { job, hooks, session, state, plan, now } = run;
  const options = job.spec.method.hyperparameters;
  const learn = session.learn(state, plan, () => pulse(hooks));
  const meter = createMeter(state, plan, job.spec.method.task.metric, hooks.progress, now);
  const rowsAt = createOrder(session.data.train, plan, options, job.spec.seed);
  let saved = now();
  for (;;) {
    if (plan.isEvaluatedAfter(state.step) && state.evaluatedStep !== state.step) {
      const begun = now();
      await evaluateStep(run);
      meter.evaluated((now() - begun) / 1000);
      await save(run);
      saved = now();
    } else if (state.step > 0 && now() - saved >= job.checkpointSeconds * 1000) {
      await save(run);
      saved = now();
    }
    if (state.step >= plan.totalSteps || isExhausted(state.stopping, options.patience)) return;
    pulse(hooks);
    const begun = now();
    const rows = rowsAt(state.step);
    const { batch, labels } = padBatch(rows, session.data.pad);
    const learningRate = plan.learningRateAt(state.step);
    const { loss, jobs } = await learn(batch, labels);
    const seconds = (now() - begun) / 1000;
    state.step++;
    state.lossSum += loss;
    state.lossCount++;
    const tokens = rows.reduce((sum, row) => sum + row.ids.length, 0);
    state.trainedTokens += tokens;
    state.stepSeconds += seconds;
    meter.stepped({ loss, learningRate, seconds, tokens, jobs });
  }
}

/** The rows of each update: a new order every epoch, a pure function of seed, epoch and the rows' lengths. */
function createOrder(
  rows: Rows,
  plan: Plan,
  { batch_size: batchSize, group_by_length: isGrouped }: Pick<ResolvedLength, 'batch_size' | 'group_by_length'>,
  seed: number,
): (step: number) => RenderedRow[] {
  const buckets = isGrouped ? { batchSize, lengths: Uint32Array.from(rows, ({ ids }) => ids.length) } : undefined;
  let current = -1;
  let order: ArrayLike<number> = [];
  return (step) => {
    const { epoch, batch } = plan.batchAt(step);
    if (epoch !== current) order = epochOrder(rows.length, seed, epoch, buckets);
    current = epoch;
    const chosen: RenderedRow[] = [];
    const end = Math.min(rows.length, (batch + 1) * batchSize);
    for (let i = batch * batchSize; i < end; i++) chosen.push(rows.at(order[i]!)!);
    return chosen;
  };
}
