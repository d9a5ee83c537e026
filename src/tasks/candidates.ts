/** The tokens a task chooses among: one a word for cloze, one or several a label for classification. */
import { PtunedError } from '../errors.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';
import type { ClassificationTask } from './schema.ts';
import type { Candidates } from './types.ts';

/** The one token of a word in the target's place, or the tokens it falls into: none where it cannot be spelled. */
export function targetToken(
  tokenizer: Tokenizer,
  word: string,
  afterSpace: boolean,
): { id: number } | { tokens: string[] } {
  const ids = encodeOrNothing(tokenizer, word.trim(), afterSpace);
  const [id] = ids;
  if (ids.length === 1 && id !== tokenizer.special.unk) return { id: id! };
  return { tokens: ids.map((one) => tokenizer.token(one)) };
}

function encodeOrNothing(tokenizer: Tokenizer, word: string, afterSpace: boolean): number[] {
  try {
    return tokenizer.encode(word, { afterSpace });
  } catch (error) {
    if (error instanceof PtunedError && error.code === 'invalid_data') return [];
    throw error;
  }
}

/**
 * Every token that both the tokenizer and the LM know; `vocabularySize` is the width of the LM's logits, which may be
 * padded. Names are the words as text, made when first asked for: decoding a whole vocabulary takes its time.
 */
export function wholeVocabulary(vocabularySize: number, tokenizer: Tokenizer): Candidates {
  const count = Math.min(vocabularySize, tokenizer.vocabularySize);
  let names: string[] | null = null;
  return {
    count,
    width: 1,
    ids: Int32Array.from({ length: count }, (_, id) => id),
    weights: new Float32Array(count).fill(1),
    get names() {
      names ??= Array.from({ length: count }, (_, id) => tokenizer.decode([id]).trim() || tokenizer.token(id));
      return names;
    },
  };
}

/** Allowed words that are one token, in their order, each token once; `left` counts the others. */
export function allowedWords(
  words: readonly string[],
  tokenizer: Tokenizer,
  afterSpace: boolean,
): { candidates: Candidates; left: number } {
  const byToken = new Map<number, string>();
  let left = 0;
  for (const word of words) {
    const found = targetToken(tokenizer, word, afterSpace);
    if (!('id' in found)) left++;
    else if (!byToken.has(found.id)) byToken.set(found.id, word.trim());
  }
  if (byToken.size < 2) {
    throw new PtunedError(
      'target_not_one_token',
      `Only ${byToken.size} of the ${words.length} allowed words are one token of this LM; at least 2 are needed.`,
      {
        param: 'task.allowed_words',
      },
    );
  }
  return {
    candidates: {
      count: byToken.size,
      width: 1,
      ids: Int32Array.from(byToken.keys()),
      weights: new Float32Array(byToken.size).fill(1),
      names: [...byToken.values()],
    },
    left,
  };
}

/** Labels with their verbalizers. @throws PtunedError target_not_one_token, verbalizer_conflict */
export function verbalizers(task: ClassificationTask, tokenizer: Tokenizer, afterSpace: boolean): Candidates {
  const labels = Object.entries(task.labels).map(([label, words]) => ({
    label,
    words: typeof words === 'string' ? [words] : words,
  }));
  if (labels.length < 2) {
    throw new PtunedError('invalid_request', `The task has ${labels.length} labels; at least 2 are needed.`, {
      param: 'task.labels',
    });
  }
  const tokens = distinctTokens(labels, tokenizer, afterSpace);
  const width = Math.max(...tokens.map((row) => row.length));
  const ids = new Int32Array(labels.length * width);
  const weights = new Float32Array(labels.length * width);
  for (const [row, own] of tokens.entries()) {
    // Places without a word repeat the first one with weight 0.
    for (let k = 0; k < width; k++) ids[row * width + k] = own[k] ?? own[0]!;
    weights.fill(1 / own.length, row * width, row * width + own.length);
  }
  return { count: labels.length, width, ids, weights, names: labels.map(({ label }) => label) };
}

/** Tokens of each label; words that are the same token ("Yes", "yes" uncased) count once. */
function distinctTokens(
  labels: readonly { label: string; words: readonly string[] }[],
  tokenizer: Tokenizer,
  afterSpace: boolean,
): number[][] {
  const owners = new Map<number, { label: string; word: string }>();
  return labels.map(({ label, words }) => {
    const own = new Set<number>();
    for (const word of words) {
      const id = verbalizerToken(tokenizer, label, word, afterSpace);
      const owner = owners.get(id);
      if (owner !== undefined && owner.label !== label) throw conflict(tokenizer, id, { label, word }, owner);
      owners.set(id, { label, word });
      own.add(id);
    }
    return [...own];
  });
}

function verbalizerToken(tokenizer: Tokenizer, label: string, word: string, afterSpace: boolean): number {
  const found = targetToken(tokenizer, word, afterSpace);
  if ('id' in found) return found.id;
  throw new PtunedError(
    'target_not_one_token',
    `The verbalizer "${word}" of label "${label}" is ${spell(found.tokens)}; a word that is one known token is accepted.`,
    { param: 'task.labels', details: { word, tokens: found.tokens } },
  );
}

function conflict(
  tokenizer: Tokenizer,
  id: number,
  one: { label: string; word: string },
  other: { label: string; word: string },
): PtunedError {
  return new PtunedError(
    'verbalizer_conflict',
    `"${other.word}" of label "${other.label}" and "${one.word}" of label "${one.label}" are the same token ${tokenizer.token(id)}; each label needs tokens of its own.`,
    { param: 'task.labels', details: { token: tokenizer.token(id) } },
  );
}

/** "3 tokens (Par, is, ian)", "the unknown token [UNK]" or "no token". */
export function spell(tokens: readonly string[]): string {
  if (tokens.length === 0) return 'no token';
  return tokens.length === 1 ? `the unknown token ${tokens[0]}` : `${tokens.length} tokens (${tokens.join(', ')})`;
}
