/** Special tokens of an LM's folder: named in tokenizer_config.json or special_tokens_map.json, found in tokenizer.json. */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { PtunedError } from '../errors.ts';
import type { SpecialTokens } from '../models/manifest.ts';

export interface TokenizerFiles {
  tokenizer: Record<string, unknown>;
  config: Record<string, unknown>;
  special: SpecialTokens;
}

type Json = Record<string, unknown>;

/** Reads a JSON object of a folder; null when the file is absent. @throws PtunedError import_refused */
function readJson(directory: string, name: string): Json | null {
  const path = join(directory, name);
  if (!existsSync(path)) return null;
  let value: unknown;
  try {
    value = JSON.parse(readFileSync(path, 'utf8'));
  } catch (error) {
    throw new PtunedError('import_refused', `${path} is not JSON: ${(error as Error).message}`, { cause: error });
  }
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Json;
  throw new PtunedError('import_refused', `${path} holds no JSON object.`);
}

/** @throws PtunedError missing_file, import_refused */
export function readTokenizerFiles(directory: string): TokenizerFiles {
  const tokenizer = readJson(directory, 'tokenizer.json');
  if (tokenizer === null) throw new PtunedError('missing_file', `${directory} has no tokenizer.json.`);
  const config = readJson(directory, 'tokenizer_config.json') ?? {};
  const map = readJson(directory, 'special_tokens_map.json') ?? {};
  const model = readJson(directory, 'config.json') ?? (readJson(directory, 'genai_config.json')?.model as Json) ?? {};
  const ids = vocabularyIds(tokenizer, directory);
  const find = (role: keyof SpecialTokens): number | null => {
    const spelled = spelling(config[`${role}_token`]) ?? spelling(map[`${role}_token`]);
    return (spelled === null ? null : ids(spelled)) ?? statedId(model[`${role}_token_id`]);
  };
  const special: SpecialTokens = {
    pad: find('pad'),
    mask: find('mask') ?? ids('[MASK]') ?? ids('<mask>'),
    bos: find('bos'),
    eos: find('eos'),
    unk: find('unk') ?? unknownOf(tokenizer, ids),
    cls: find('cls'),
    sep: find('sep'),
  };
  return { tokenizer, config, special };
}

/** A token is written as a string or as an object with `content`. */
function spelling(value: unknown): string | null {
  if (typeof value === 'string') return value;
  const content = (value as { content?: unknown } | null | undefined)?.content;
  return typeof content === 'string' ? content : null;
}

/** config.json states an id, or a list of them where several end a text. */
function statedId(value: unknown): number | null {
  const first: unknown = Array.isArray(value) ? value[0] : value;
  return typeof first === 'number' && Number.isInteger(first) && first >= 0 ? first : null;
}

function vocabularyIds(tokenizer: Json, directory: string): (token: string) => number | null {
  const vocab = (tokenizer.model as { vocab?: unknown } | null | undefined)?.vocab;
  const ids = new Map<unknown, unknown>();
  try {
    // A Unigram model lists [token, score] by id, others map token to id.
    if (Array.isArray(vocab)) for (const [id, [token]] of vocab.entries()) ids.set(token, id);
    else for (const [token, id] of Object.entries(vocab ?? {})) ids.set(token, id);
    for (const { content, id } of (tokenizer.added_tokens ?? []) as Json[]) ids.set(content, id);
  } catch (error) {
    const message = `${directory}/tokenizer.json is not accepted: ${(error as Error).message}`;
    throw new PtunedError('import_refused', message, { cause: error });
  }
  return (token) => statedId(ids.get(token));
}

function unknownOf(tokenizer: Json, ids: (token: string) => number | null): number | null {
  const model = tokenizer.model as { unk_token?: unknown; unk_id?: unknown } | null | undefined;
  if (typeof model?.unk_id === 'number') return model.unk_id;
  return typeof model?.unk_token === 'string' ? ids(model.unk_token) : null;
}
