/** Everything a run needs in memory: data, the frozen LM as trainer and scorer, the prompt encoder. */
import { PtunedError } from '../errors.ts';
import type { Metrics } from '../jobs/contract.ts';
import { planOf } from '../jobs/methods/registry.ts';
import type { PromptTable, Scorer, TablePlace } from '../lm/types.ts';
import type { EncoderShape, Parameters } from '../prompts/types.ts';
import { placeFor, takingContexts } from './contexts.ts';
import type { TuningData } from './data.ts';
import { arrangeEvaluation, type EvaluationSet, evaluate } from './evaluate.ts';
import type { Learn } from './learn.ts';
import { openPrompt } from './prompt.ts';
import type { PromptSource } from './search.ts';
import type { TuningDependencies, TuningJob } from './types.ts';

export type EvaluationName = 'dev' | 'test' | 'manualDev' | 'manualTest';

export interface Session {
  readonly data: TuningData;
  /** Yields the table [n, width] from the parameters. */
  readonly encoder: PromptSource;
  readonly place: TablePlace;
  readonly learn: Learn;
  /** The prompt as words, one a row; null where its rows are none. */
  words(parameters: Parameters): string[] | null;
  /** Scores a table [n, width] on a split that exists; the manual prompt needs none. */
  score(split: EvaluationName, table: Float32Array | null, beforeBatch: () => void): Promise<Metrics>;
  close(): Promise<void>;
}

/** Opens a session; what was opened is closed again when a later part fails. Throws model_mismatch. */
export async function openSession(job: TuningJob, dependencies: TuningDependencies): Promise<Session> {
  if (job.spec.modelHash !== job.model.hash) {
    throw new PtunedError(
      'model_mismatch',
      `The LM "${job.model.id}" is no longer the one this job was accepted for: its hash is ${job.model.hash}, not ${job.spec.modelHash}.`,
      { param: 'model' },
    );
  }
  const opened: { close(): Promise<void> }[] = [];
  const keep = <T extends { close(): Promise<void> }>(part: T): T => {
    opened.push(part);
    return part;
  };
  const close = async (): Promise<void> => {
    for (const part of opened.splice(0).reverse()) await part.close();
  };
  try {
    const data = await dependencies.loadData(job);
    const lm = keep(await dependencies.openLm(job.model, { threads: job.threads, device: job.device }));
    const plan = planOf(job.spec.method);
    const prompt = await openPrompt(job, plan, data, lm, dependencies);
    const encoder = keep(prompt.encoder);
    const place = placeFor(job, plan.place, data);
    const opening = {
      trainer: keep(await lm.trainer(data.candidates, place)),
      scorer: keep(await lm.scorer(data.candidates, place === 'apart' ? plan.place : place)),
    };
    const { trainer, scorer } = place === 'behind' ? takingContexts(opening, job.contextBytes) : opening;
    const learn = prompt.learn({ trainer, scorer });
    const score = createScoring(data, scorer, encoder.shape);
    return { data, encoder, place, learn, words: prompt.words, score, close };
  } catch (error) {
    await close();
    throw error;
  }
}

/** Arranges each split once, when it is first asked for. */
function createScoring(data: TuningData, scorer: Scorer, { virtualTokens, width }: EncoderShape): Session['score'] {
  const rowsOf = {
    dev: data.dev,
    test: data.test,
    manualDev: data.manual?.dev ?? null,
    manualTest: data.manual?.test ?? null,
  };
  const arranged = new Map<EvaluationName, EvaluationSet>();
  return async (split, values, beforeBatch) => {
    let set = arranged.get(split);
    if (set === undefined) {
      set = arrangeEvaluation(rowsOf[split] ?? [], data.pad);
      arranged.set(split, set);
    }
    // The manual prompt has no rows; the table is there because the graph has an input for it.
    const table: PromptTable = {
      rows: values === null ? 0 : virtualTokens,
      width,
      values: values ?? new Float32Array(0),
    };
    return evaluate(scorer, set, table, (scores) => data.measure(scores), beforeBatch);
  };
}
