/** @huggingface/tokenizers with types: the ones it ships do not resolve under NodeNext and become `any`. */
import { Tokenizer as LibraryTokenizer } from '@huggingface/tokenizers';

type Json = Record<string, unknown>;

export interface HubTokenizer {
  /** An id is undefined where the vocabulary has neither the token nor an unknown token. */
  encode(text: string, options: { add_special_tokens: boolean }): { ids: (number | undefined)[]; tokens: string[] };
  /** Throws on an empty list. */
  decode(
    ids: readonly number[],
    options: { skip_special_tokens: boolean; clean_up_tokenization_spaces: boolean },
  ): string;
  id_to_token(id: number): string | undefined;
  get_vocab(withAddedTokens: boolean): Map<string, number>;
}

/** Throws a plain Error for what the library does not know. */
export function openHubTokenizer(tokenizer: Json, config: Json): HubTokenizer {
  const Constructor = LibraryTokenizer as unknown as new (tokenizer: Json, config: Json) => HubTokenizer;
  return new Constructor(tokenizer, config);
}
