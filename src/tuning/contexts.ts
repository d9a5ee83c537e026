/** How a job trains with texts before its rows' first pseudo tokens, and its trainer and scorer behind contexts. */
import { epochOrder, padBatch } from '../data/batches.ts';
import { createContexts, type StepWork, stepWork } from '../lm/contexts.ts';
import { pickBatch, pickRows } from '../lm/rows.ts';
import type { LmBatch, ScoreResult, Scorer, TablePlace, Trainer } from '../lm/types.ts';
import { type PromptPlace, prefixWidth } from '../models/past.ts';
import type { TuningData } from './data.ts';
import { createPlan } from './plan.ts';
import type { TuningJob } from './types.ts';

/** Batches of the first epoch that are looked at. */
const sampled = 16;

/** Of the work of whole rows, what must at least be saved. */
const leastSaved = 0.1;

/** What work of rows whose early tokens are apart costs beside whole rows'. Measured on GPT-2 124M: 1.07 to 1.14. */
const apartCost = 1.1;

/** Epochs that are counted on: more are often planned than early stopping leaves. */
const surestEpochs = 4;

/** Rows of a scored batch at a time: what they stand behind is in memory twice. */
const mostContextTokens = 2048;

/**
 * Of rows with texts before their first pseudo token, as the import of a causal LM found that they may be computed, what costs
 * least: whole; with these texts apart; behind contexts. A function of LM, data and what the job began with, so that a job that
 * goes on goes on in this way.
 */
export function placeFor(job: TuningJob, place: PromptPlace, { train, pad }: TuningData): TablePlace {
  const { spec, model, device } = job;
  if (place !== 'embeddings' || model.kind !== 'causal' || model.redundant !== 'prefixes') return place;
  const { batch_size: size } = spec.method.hyperparameters;
  const order = epochOrder(train.length, spec.seed, 0).subarray(0, sampled * size);
  const sum: StepWork = { whole: 0, apart: 0, rest: 0, reading: 0, contexts: 0 };
  for (let start = 0; start < order.length; start += size) {
    const rows = Array.from(order.subarray(start, start + size), (row) => train.at(row)!);
    const work = stepWork(padBatch(rows, pad).batch);
    for (const key of Object.keys(sum) as (keyof StepWork)[]) sum[key] += work[key];
  }
  // Keys and values are copied in with each step, and in float32.
  const canStandBehind = model.contexts === true && device === 'cpu' && sum.contexts > 0;
  const costs: [TablePlace, number][] = [
    [place, (1 - leastSaved) * sum.whole],
    ['apart', apartCost * sum.apart],
    ['behind', canStandBehind ? sum.rest + sum.reading * readShare(job, sum, order.length, train.length) : Infinity],
  ];
  return costs.reduce((a, b) => (b[1] < a[1] ? b : a))[0];
}

/** Share of its contexts that an epoch reads, if those of the sampled rows are like all. */
function readShare(
  { spec, model, contextBytes }: TuningJob,
  { contexts }: StepWork,
  seen: number,
  rows: number,
): number {
  const bytes = 4 * prefixWidth(model.inputs) * contexts * (rows / seen);
  const { totalSteps, stepsPerEpoch } = createPlan(spec.method.hyperparameters, rows);
  const epochs = Math.min(surestEpochs, Math.max(1, totalSteps / stepsPerEpoch));
  return 1 - Math.min(1, contextBytes / bytes) * (1 - 1 / epochs);
}

export interface Parts {
  trainer: Trainer;
  scorer: Scorer;
}

/** The same parts for whole batches, whose contexts they take away. @param limit bytes of keys and values that are kept */
export function takingContexts({ trainer, scorer }: Parts, limit: number): Parts {
  const contexts = createContexts(scorer.read!, limit);
  return {
    trainer: {
      ...trainer,
      step: async (batch, ...rest) => trainer.step(await contexts.of(batch), ...rest),
    },
    scorer: {
      ...scorer,
      async score(batch, labels, table) {
        const results: ScoreResult[] = [];
        for (const rows of slices(batch)) {
          const part = await contexts.of(pickBatch(batch, rows));
          results.push(await scorer.score(part, pickRows(labels, 1, rows), table));
        }
        return joined(results);
      },
    },
  };
}

/** Rows of a batch in parts that are not too long together. */
function slices({ rows, length }: LmBatch): number[][] {
  const size = Math.max(1, Math.floor(mostContextTokens / length));
  const all = Array.from({ length: rows }, (_, row) => row);
  return Array.from({ length: Math.ceil(rows / size) }, (_, i) => all.slice(i * size, (i + 1) * size));
}

function joined(results: readonly ScoreResult[]): ScoreResult {
  const all = <T>(of: (result: ScoreResult) => ArrayLike<T>): T[] => results.flatMap((one) => Array.from(of(one)));
  return {
    loss: Float32Array.from(all((one) => one.loss)),
    rank: Int32Array.from(all((one) => one.rank)),
    best: Int32Array.from(all((one) => one.best)),
  };
}
