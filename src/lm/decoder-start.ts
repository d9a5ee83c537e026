/** What the decoder of an encoder-decoder LM is given, from the configuration and the tokenizer beside it. */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { PtunedError } from '../errors.ts';
import type { DecoderStart } from '../models/manifest.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';

/**
 * Sentinels where the tokenizer has them (T5: the decoder answers each with what is missing there), else the mask, before
 * which the decoder repeats the text (BART), else no mark at all.
 * @throws PtunedError import_refused when no token begins an answer
 */
export function decoderStart(folder: string, config: Record<string, unknown>, tokenizer: Tokenizer): DecoderStart {
  const generation = readJson(join(folder, 'generation_config.json'));
  const stated = (name: string) => tokenId(config[name]) ?? tokenId(generation[name]);
  const { special, prefix } = tokenizer;
  const first = stated('decoder_start_token_id') ?? stated('bos_token_id') ?? special.bos ?? special.pad;
  if (first === null) {
    throw new PtunedError(
      'import_refused',
      `config.json of ${folder} names no decoder_start_token_id, and there is no bos or pad token that could begin an answer.`,
    );
  }
  const forced = stated('forced_bos_token_id');
  const opening = forced === null ? prefix : [forced];
  const excluded = neverSaid({ ...config, ...generation });
  const never = excluded.length === 0 ? {} : { never: excluded };
  const sentinel = sentinelId(tokenizer, 0);
  if (sentinel !== null) {
    const next = sentinelId(tokenizer, 1);
    return { start: [first], mark: sentinel, repeats: false, ends: next === null ? [] : [next], ...never };
  }
  return { start: [first, ...opening], mark: special.mask, repeats: special.mask !== null, ends: [], ...never };
}

/** Tokens that Transformers gives no probability: `suppress_tokens`, and `bad_words_ids` of one token. */
function neverSaid({ suppress_tokens: tokens, bad_words_ids: words }: Record<string, unknown>): number[] {
  const single = Array.isArray(words) ? words.filter((word) => Array.isArray(word) && word.length === 1).flat() : [];
  const all = [...(Array.isArray(tokens) ? tokens : []), ...single].map(tokenId);
  return [...new Set(all.filter((id) => id !== null))];
}

/** mT5's stand in its vocabulary with the mark of a leading space. */
function sentinelId(tokenizer: Tokenizer, index: number): number | null {
  const spelling = `<extra_id_${index}>`;
  for (const afterSpace of [false, true]) {
    const ids = tokenizer.encode(spelling, { afterSpace });
    if (ids.length === 1 && tokenizer.token(ids[0]!).endsWith(spelling)) return ids[0]!;
  }
  return null;
}

function tokenId(value: unknown): number | null {
  return typeof value === 'number' && Number.isInteger(value) && value >= 0 ? value : null;
}

function readJson(path: string): Record<string, unknown> {
  if (!existsSync(path)) return {};
  try {
    return JSON.parse(readFileSync(path, 'utf8')) as Record<string, unknown>;
  } catch (error) {
    throw new PtunedError('import_refused', `${path} is not JSON: ${(error as Error).message}`, { cause: error });
  }
}
