/**
 * AutoPrompt's search for words (arXiv 2010.15980, §2.2). A step takes one slot, ranks the vocabulary by how much each
 * token's embedding would lower the loss to first order (HotFlip: −e(w)·dLoss/de), scores the best of them exactly, and
 * keeps what scores best. Everything is a function of seed, step and the words so far, so a resumed search goes on alike.
 */
import { epochOrder } from '../data/batches.ts';
import type { Rows } from '../data/compact.ts';
import type { Lm, PromptTable, Scorer, Trainer } from '../lm/types.ts';
import type { EncoderShape, Parameters, PromptEncoder } from '../prompts/types.ts';
import { arrangeEvaluation, evaluate } from './evaluate.ts';
import type { Learn } from './learn.ts';
import { lossNotFinite } from './step.ts';

/** What makes a table and can start it; a search trains nothing, so it has no gradient. */
export type PromptSource = Omit<PromptEncoder, 'gradient'>;

const name = 'tokens';

/** A prompt of words: its one parameter is the tokens' ids [n]; the table is their embeddings. */
export function createWordPrompt(lm: Lm, shape: EncoderShape, start: readonly number[]): PromptSource {
  return {
    shape,
    initialise: () => new Map([[name, { shape: [start.length], values: Float32Array.from(start) }]]),
    forward: (parameters) => lm.embeddings(tokensOf(parameters)),
    close: async () => {},
  };
}

/** Ids below 2^24 are exact in float32. */
export function tokensOf(parameters: Parameters): number[] {
  return Array.from(parameters.get(name)!.values);
}

export interface SearchOptions {
  lm: Pick<Lm, 'embeddings' | 'products'>;
  trainer: Trainer;
  scorer: Scorer;
  shape: EncoderShape;
  /** Training rows of which some are drawn, on which every candidate is scored. */
  train: Rows;
  rows: number;
  pad: number;
  /** Tokens that may stand in a slot, ascending. */
  allowed: Int32Array;
  candidates: number;
  seed: number;
}

export function learnBySearch(options: SearchOptions): Learn {
  const { lm, trainer, scorer, train, pad, seed, allowed, candidates } = options;
  const { virtualTokens: n, width } = options.shape;
  // Training epochs are not negative, and the split has -1: other draws have epochs of their own.
  const drawn = epochOrder(train.length, seed, -2).slice(0, options.rows).sort();
  const set = arrangeEvaluation(
    Array.from(drawn, (row) => train.at(row)!),
    pad,
  );
  const tableOf = (rows: readonly Float32Array[]): PromptTable => {
    const values = new Float32Array(n * width);
    for (const [row, embedding] of rows.entries()) values.set(embedding, row * width);
    return { rows: n, width, values };
  };
  return (state, _plan, beforeBatch) => async (batch, labels) => {
    const embed = async (ids: readonly number[]) => {
      const values = await lm.embeddings(ids);
      return ids.map((_, i) => values.subarray(i * width, (i + 1) * width));
    };
    const score = async (rows: readonly Float32Array[]) =>
      (await evaluate(scorer, set, tableOf(rows), () => ({}), beforeBatch)).loss!;
    const current = tokensOf(state.parameters);
    const rows = await embed(current);
    const { loss, gradient, jobs = 1 } = await trainer.step(batch, labels, tableOf(rows));
    const slot = epochOrder(n, seed, -3 - Math.floor(state.step / n))[state.step % n]!;
    const products = await lm.products(gradient.subarray(slot * width, (slot + 1) * width));
    let best = { id: current[slot]!, loss: await score(rows) };
    if (![loss, best.loss].every(Number.isFinite)) throw lossNotFinite('loss', loss, state.step + 1, 0);
    const tried = lowest(products, allowed, candidates).filter((id) => id !== current[slot]);
    for (const [i, row] of (await embed(tried)).entries()) {
      const its = await score(rows.with(slot, row));
      if (its < best.loss) best = { id: tried[i]!, loss: its };
    }
    state.parameters.get(name)!.values[slot] = best.id;
    return { loss, jobs };
  };
}

/** The `count` ids of `among` with the lowest values, lowest first; of equal ones the lower id. */
export function lowest(values: Float32Array, among: Int32Array, count: number): number[] {
  const kept: number[] = [];
  for (const id of among) {
    const value = values[id]!;
    if (kept.length === count && !(value < values[kept.at(-1)!]!)) continue;
    let at = kept.length;
    while (at > 0 && value < values[kept[at - 1]!]!) at--;
    kept.splice(at, 0, id);
    if (kept.length > count) kept.pop();
  }
  return kept;
}
