/** The part of a vocabulary that words can be drawn from. */
import type { Tokenizer } from './tokenizer.ts';

/**
 * Ids of tokens that say something as text: no special token, no part of a character, no space alone. `vocabularySize` is
 * the LM's, which may have rows for no token.
 */
export function ordinaryTokens(tokenizer: Tokenizer, vocabularySize: number): Int32Array {
  const special = new Set(Object.values(tokenizer.special));
  const count = Math.min(vocabularySize, tokenizer.vocabularySize);
  const ids = Array.from({ length: count }, (_, id) => id).filter((id) => {
    if (special.has(id)) return false;
    const text = tokenizer.decode([id]).trim();
    return text !== '' && !text.includes('\uFFFD');
  });
  return Int32Array.from(ids);
}
