/** A tokenizer.json that spells anything with the first ids: one token a byte, the rest of the vocabulary unused names. */

/** Bytes as printable characters, as GPT-2's byte-level BPE maps them. */
function byteCharacters(): string[] {
  const printable = (byte: number) =>
    (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || (byte >= 174 && byte <= 255);
  let next = 256;
  return Array.from({ length: 256 }, (_, byte) => String.fromCharCode(printable(byte) ? byte : next++));
}

const specials = ['<|endoftext|>', '[MASK]'];

/** Vocabularies are at least this large. */
export const smallestVocabulary = 256 + specials.length;

export interface TokenizerFiles {
  tokenizer: Record<string, unknown>;
  config: Record<string, unknown>;
}

/** @param size ids below it have a token. @throws Error below {@link smallestVocabulary} */
export function byteTokenizer(size: number): TokenizerFiles {
  if (size < smallestVocabulary)
    throw new Error(`a vocabulary of ${size} is too small, ${smallestVocabulary} is the least`);
  const tokens = [...specials, ...byteCharacters()];
  const vocab = Object.fromEntries(Array.from({ length: size }, (_, id) => [tokens[id] ?? `<|unused${id}|>`, id]));
  const level = { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true };
  const added = specials.map((content, id) => ({
    id,
    content,
    ...{ single_word: false, lstrip: false, rstrip: false, normalized: false, special: true },
  }));
  const bpe = {
    type: 'BPE',
    dropout: null,
    unk_token: null,
    continuing_subword_prefix: null,
    end_of_word_suffix: null,
  };
  const rest = { fuse_unk: false, byte_fallback: false, ignore_merges: false, vocab, merges: [] };
  return {
    tokenizer: {
      ...{ version: '1.0', truncation: null, padding: null, added_tokens: added, normalizer: null },
      ...{ pre_tokenizer: level, post_processor: level, decoder: level, model: { ...bpe, ...rest } },
    },
    config: {
      tokenizer_class: 'GPT2Tokenizer',
      bos_token: specials[0],
      eos_token: specials[0],
      pad_token: specials[0],
      mask_token: specials[1],
    },
  };
}
