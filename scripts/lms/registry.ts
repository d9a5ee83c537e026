/** Families of LMs that can be generated, by name. */
import type { Author } from './author.ts';
import { bert } from './bert.ts';
import { gpt2 } from './gpt2.ts';
import { llama } from './llama.ts';
import type { LmShape } from './shape.ts';

export interface Family {
  name: string;
  /** Sizes of the family's best known LM: GPT-2, BERT-base, SmolLM2-135M. */
  defaults: Partial<LmShape> & Pick<LmShape, 'layers' | 'hidden' | 'heads' | 'vocabulary' | 'positions'>;
  /** Width of the feed-forward layer where it is not given. */
  intermediate(hidden: number): number;
  /** config.json as Transformers writes it. */
  config(shape: LmShape): Record<string, unknown>;
  /** Writes the graph into the author's builder; its last node yields the logits [batch, sequence, vocabulary]. */
  logits(author: Author, shape: LmShape): string;
}

export const families: ReadonlyMap<string, Family> = new Map([gpt2, bert, llama].map((one) => [one.name, one]));

/** @throws Error for sizes that do not fit each other */
export function lmShape(family: Family, given: Partial<LmShape> = {}): LmShape {
  const { defaults } = family;
  const hidden = given.hidden ?? defaults.hidden;
  const heads = given.heads ?? defaults.heads;
  const ownSizes = given.hidden === undefined || given.hidden === defaults.hidden;
  const keyValueHeads =
    given.keyValueHeads ?? (given.heads === undefined ? defaults.keyValueHeads : undefined) ?? heads;
  const intermediate =
    given.intermediate ?? (ownSizes ? defaults.intermediate : undefined) ?? family.intermediate(hidden);
  if (hidden % heads !== 0) throw new Error(`hidden ${hidden} is not a multiple of ${heads} heads`);
  if (heads % keyValueHeads !== 0)
    throw new Error(`${heads} heads are not a multiple of ${keyValueHeads} key/value heads`);
  return { ...defaults, ...given, hidden, heads, keyValueHeads, intermediate };
}
