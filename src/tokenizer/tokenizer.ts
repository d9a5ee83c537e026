/** What the rest of the project needs of a tokenizer.json; implemented over @huggingface/tokenizers in load.ts. */
import type { SpecialTokens } from '../models/manifest.ts';

export interface Tokenizer {
  readonly vocabularySize: number;
  readonly special: SpecialTokens;
  /** Ids the tokenizer's own post-processor puts around a single sequence: [CLS] … [SEP], <s> … </s>, or none. */
  readonly prefix: readonly number[];
  readonly suffix: readonly number[];
  /**
   * Ids of a text without special tokens. `afterSpace` gives the first word the marker it has inside a sentence
   * (Ġ, ▁); it changes nothing for tokenizers that have no such marker (WordPiece).
   */
  encode(text: string, options: { afterSpace: boolean }): number[];
  decode(ids: readonly number[]): string;
  /** The token's own spelling, marker included, for error messages. */
  token(id: number): string;
}
