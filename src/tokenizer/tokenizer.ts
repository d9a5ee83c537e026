/** What the rest of the project needs of a tokenizer.json; implemented over @huggingface/tokenizers in load.ts. */
import type { SpecialTokens } from '../models/manifest.ts';

export interface Tokenizer {
  readonly vocabularySize: number;
  readonly special: SpecialTokens;
  /** Ids the tokenizer's own post-processor puts around a single sequence: [CLS] … [SEP], <s> … </s>, or none. */
  readonly prefix: readonly number[];
  readonly suffix: readonly number[];
  /** Whether the first word of a text has the marker of a leading space: LLaMA, T5, RoBERTa with add_prefix_space. */
  readonly spaceAtStart: boolean;
  /**
   * Ids of a text without special tokens. `afterSpace` gives the first word the marker it has inside a sentence
   * (Ġ, ▁); it changes nothing for tokenizers that have no such marker (WordPiece), nor before a special token that is
   * spelled out. Throws invalid_data where the vocabulary has no token for the text and none for unknown text.
   */
  encode(text: string, options: { afterSpace: boolean }): number[];
  /** Text of the ids without special tokens; the first word has no space before it where its tokenizer would strip it. */
  decode(ids: readonly number[]): string;
  /** The token's own spelling, marker included, for error messages. */
  token(id: number): string;
}
