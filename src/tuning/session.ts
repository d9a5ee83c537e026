/** Everything a run needs in memory: data, the frozen LM as trainer and scorer, the prompt encoder. */
import { PtunedError } from '../errors.ts';
import type { Metrics } from '../jobs/contract.ts';
import type { Lm, PromptTable, Scorer, Trainer } from '../lm/types.ts';
import type { PromptEncoder } from '../prompts/types.ts';
import type { TuningData } from './data.ts';
import { arrangeEvaluation, type EvaluationSet, evaluate } from './evaluate.ts';
import type { TuningDependencies, TuningJob } from './types.ts';

export type EvaluationName = 'dev' | 'test' | 'manualDev' | 'manualTest';

export interface Session {
  readonly data: TuningData;
  readonly encoder: PromptEncoder;
  readonly trainer: Trainer;
  /** Scores a table [n, H] on a split that exists; the manual prompt needs none. */
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
    const width = job.model.embedding.width;
    const shape = {
      ...job.spec.method.encoder,
      virtualTokens: data.virtualTokens,
      width,
      base: await baseEmbeddings(lm, data.initial, width),
    };
    const encoder = keep(await dependencies.openEncoder(shape, { threads: job.threads }));
    const trainer = keep(await lm.trainer(data.candidates));
    const scorer = keep(await lm.scorer(data.candidates));
    return { data, encoder, trainer, score: createScoring(data, scorer, width), close };
  } catch (error) {
    await close();
    throw error;
  }
}

/**
 * Embeddings the pseudo tokens start from [n, H]: those of their words, and the mean embedding where there is no word
 * for one. Null when there are no words at all, and the encoder's output alone is the table.
 */
async function baseEmbeddings(lm: Lm, initial: TuningData['initial'], width: number): Promise<Float32Array | null> {
  if (initial === null || initial.every((id) => id === null)) return null;
  const mean = await lm.meanEmbedding();
  const words = await lm.embeddings(initial.filter((id) => id !== null));
  const base = new Float32Array(initial.length * width);
  let word = 0;
  for (const [row, id] of initial.entries()) {
    base.set(id === null ? mean : words.subarray(word * width, ++word * width), row * width);
  }
  return base;
}

/** Arranges each split once, when it is first asked for. */
function createScoring(data: TuningData, scorer: Scorer, width: number): Session['score'] {
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
    const rows = data.virtualTokens;
    // No row of the manual prompt has a slot; the table is there only because the graph has an input for it.
    const table: PromptTable = { rows, width, values: values ?? new Float32Array(rows * width) };
    return evaluate(scorer, set, table, (scores) => data.measure(scores), beforeBatch);
  };
}
