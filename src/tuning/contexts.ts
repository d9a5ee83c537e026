/** Whether a job's rows train behind their contexts, and its trainer and scorer where they do. */
import { epochOrder, padBatch } from '../data/batches.ts';
import { createContexts, stepTokens } from '../lm/contexts.ts';
import { pickBatch, pickRows } from '../lm/rows.ts';
import type { LmBatch, ScoreResult, Scorer, TablePlace, Trainer } from '../lm/types.ts';
import type { PromptPlace } from '../models/past.ts';
import type { TuningData } from './data.ts';
import type { TuningJob } from './types.ts';

/** Batches of the first epoch that are looked at. */
const sampled = 16;

/** Of the work of whole rows, what must at least be saved with nothing kept. */
const leastSaved = 0.1;

/** Rows of a scored batch at a time: what they stand behind is in memory twice. */
const mostContextTokens = 2048;

/**
 * Behind contexts where the LM takes them, as its import measured, and steps then cost less even with nothing kept: where rows
 * begin with long texts of their own. A function of LM, data and seed alone, so that a job that goes on goes on in this way.
 */
export function placeFor(
  { spec, model, device }: TuningJob,
  place: PromptPlace,
  { train, pad }: TuningData,
): TablePlace {
  // Keys and values are copied in with each step, and in float32.
  if (place !== 'embeddings' || model.contexts !== true || device !== 'cpu') return place;
  const { batch_size: size } = spec.method.hyperparameters;
  const order = epochOrder(train.length, spec.seed, 0).subarray(0, sampled * size);
  const sum = { whole: 0, behind: 0 };
  for (let start = 0; start < order.length; start += size) {
    const rows = Array.from(order.subarray(start, start + size), (row) => train.at(row)!);
    const { whole, behind } = stepTokens(padBatch(rows, pad).batch);
    sum.whole += whole;
    sum.behind += behind;
  }
  return sum.behind <= (1 - leastSaved) * sum.whole ? 'behind' : place;
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
