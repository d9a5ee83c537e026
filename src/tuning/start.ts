/** Where a prompt starts: at words of the template, and elsewhere as its method says. */
import type { Start } from '../jobs/methods/record.ts';
import type { Lm } from '../lm/types.ts';
import type { PromptPlace } from '../models/past.ts';
import { createRandom } from '../prompts/random.ts';
import type { TuningData } from './data.ts';

type Vocabulary = Pick<TuningData, 'initial' | 'virtualTokens' | 'vocabulary'>;

/** Tokens drawn from the vocabulary's words, a pure function of the seed [n]. */
export function sampleTokens({ vocabulary, virtualTokens }: Vocabulary, seed: number): number[] {
  const ids = vocabulary.ordinary();
  const draws = createRandom(seed).uniform(virtualTokens, 0.5);
  return Array.from(draws, (draw) => ids[Math.min(ids.length - 1, Math.floor((draw + 0.5) * ids.length))]!);
}

/** What stands in for a word where the template gives none; null: no token does. */
const tokens: Record<Start, (data: Vocabulary, seed: number) => (row: number) => number | null> = {
  random: () => () => null,
  mean: () => () => null,
  vocabulary: (data, seed) => {
    const sample = sampleTokens(data, seed);
    return (row) => sample[row]!;
  },
  mask: (data, seed) => {
    const sample = sampleTokens(data, seed);
    return (row) => data.vocabulary.mask ?? sample[row]!;
  },
};

/** The token each row starts from [n], null for none. */
export function startTokens(data: Vocabulary, start: Start, seed: number): (number | null)[] {
  const fill = tokens[start](data, seed);
  const initial = data.initial ?? new Array<null>(data.virtualTokens).fill(null);
  return initial.map((id, row) => id ?? fill(row));
}

export interface StartOptions {
  place: PromptPlace;
  start: Start;
  seed: number;
  width: number;
}

/**
 * Rows [n, width] that the prompt starts from: word embeddings of its tokens, or the keys and values that the LM itself
 * computes for them. Null where no row has a token, and the encoder's output alone is the table.
 */
export async function startRows(lm: Lm, data: Vocabulary, options: StartOptions): Promise<Float32Array | null> {
  const { place, start, seed, width } = options;
  const ids = startTokens(data, start, seed);
  if (ids.every((id) => id === null)) return null;
  const rows = await rowsOf[place](lm, ids, () => sampleTokens(data, seed));
  const others = start === 'mean' ? await lm.meanEmbedding() : createRandom(seed + 1).normal(ids.length * width);
  for (const [row, id] of ids.entries()) {
    if (id !== null) continue;
    rows.set(start === 'mean' ? others : others.subarray(row * width, (row + 1) * width), row * width);
  }
  return rows;
}

/** Rows of tokens [n, width]; those of rows without a token are not read. */
const rowsOf: Record<
  PromptPlace,
  (lm: Lm, ids: readonly (number | null)[], sample: () => number[]) => Promise<Float32Array>
> = {
  embeddings: async (lm, ids) => (await lm.embeddings(ids.map((id) => id ?? 0))).slice(),
  // Words are read behind what stands before them, so every place needs some token.
  past: (lm, ids, sample) => {
    const others = ids.includes(null) ? sample() : [];
    return lm.keysAndValues(ids.map((id, row) => id ?? others[row]!));
  },
};
