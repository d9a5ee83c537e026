/** tokenizer.json behind the project's interface, over @huggingface/tokenizers. */
import { PtunedError } from '../errors.ts';
import type { SpecialTokens } from '../models/manifest.ts';
import { type HubTokenizer, openHubTokenizer } from './hub.ts';
import { withoutOwnSpace } from './spaces.ts';
import { readTokenizerFiles } from './special.ts';
import type { Tokenizer } from './tokenizer.ts';

type Json = Record<string, unknown>;

/** @throws PtunedError missing_file, import_refused */
export async function loadTokenizer(directory: string): Promise<Tokenizer> {
  const { tokenizer, config, special } = readTokenizerFiles(directory);
  try {
    return createTokenizer(tokenizer, config, special);
  } catch (error) {
    const message = `${directory}/tokenizer.json is not accepted: ${(error as Error).message}`;
    throw new PtunedError('import_refused', message, { cause: error });
  }
}

/** Special tokens alone, for the import of an LM. @throws PtunedError missing_file, import_refused */
export async function readSpecialTokens(directory: string): Promise<SpecialTokens> {
  return readTokenizerFiles(directory).special;
}

function createTokenizer(json: Json, config: Json, special: SpecialTokens): Tokenizer {
  const original = openHubTokenizer(json, config);
  const { encode, spaceAtStart } = createEncoder(original, json, config);
  const vocabularySize = 1 + [...original.get_vocab(true).values()].reduce((most, id) => Math.max(most, id), -1);
  const spelled = specialSpellings(json);
  const [prefix, suffix] = around(original);
  return {
    vocabularySize,
    special,
    prefix,
    suffix,
    spaceAtStart,
    encode(text, { afterSpace }) {
      if (text === '') return [];
      const marked = afterSpace && !spelled.some((token) => text.startsWith(token));
      return encode(text, marked).map((id) => id ?? refuseText(text));
    },
    decode(ids) {
      const known = ids.filter((id) => original.id_to_token(id) !== undefined);
      if (known.length === 0) return '';
      return original.decode(known, { skip_special_tokens: true, clean_up_tokenization_spaces: false });
    },
    token: (id) => original.id_to_token(id) ?? `#${id}`,
  };
}

type Encode = (text: string, afterSpace: boolean) => (number | undefined)[];

/**
 * Encodes with and without a leading space. Where the tokenizer adds one itself, a copy of it that does not is used, if
 * that copy gives the same ids for the same sentences; otherwise the marker is taken off the first token.
 */
function createEncoder(original: HubTokenizer, json: Json, config: Json): { encode: Encode; spaceAtStart: boolean } {
  const { tokenizer, spaceAtStart } = withoutOwnSpace(json, config.remove_space === true);
  const bare = spaceAtStart ? openHubTokenizer(tokenizer, { ...config, remove_space: false }) : original;
  const encode: Encode = (text, afterSpace) => idsOf(bare, afterSpace ? ` ${text}` : text, false);
  if (probes.every((text) => same(encode(text, spaceAtStart), idsOf(original, text, false)))) {
    return { encode, spaceAtStart };
  }
  const vocabulary = original.get_vocab(true);
  return {
    encode: (text, afterSpace) => (afterSpace ? idsOf(original, text, false) : unmarked(original, text, vocabulary)),
    spaceAtStart: true,
  };
}

/** Sentences with what tokenizers treat apart: spaces, punctuation, digits, capitals, other scripts. */
const probes = ['a', 'The capital of France is Paris.', "It's 1,234 (or 56)!", 'Straße in 東京, ça va?', 'one\ntwo'];

/** Without the marker (▁, Ġ) of the first word. */
function unmarked(hub: HubTokenizer, text: string, vocabulary: Map<string, number>): (number | undefined)[] {
  const { ids, tokens } = hub.encode(text, { add_special_tokens: false });
  const first = tokens[0];
  if (first === undefined || !/^[▁Ġ]/.test(first)) return ids;
  if (first.length === 1) return ids.slice(1);
  const plain = vocabulary.get(first.slice(1));
  return plain === undefined ? ids : [plain, ...ids.slice(1)];
}

function idsOf(hub: HubTokenizer, text: string, withSpecial: boolean): (number | undefined)[] {
  return hub.encode(text, { add_special_tokens: withSpecial }).ids;
}

function refuseText(text: string): never {
  const shown = text.length > 60 ? `${text.slice(0, 60)}…` : text;
  throw new PtunedError(
    'invalid_data',
    `The tokenizer of this LM has no token for a part of "${shown}", and no unknown token.`,
  );
}

function specialSpellings(json: Json): string[] {
  const added = (json.added_tokens ?? []) as { content: string; special?: boolean }[];
  return added.filter((token) => token.special === true).map((token) => token.content);
}

function same(a: readonly unknown[], b: readonly unknown[]): boolean {
  return a.length === b.length && a.every((id, i) => id === b[i]);
}

/** What the post-processor puts before and behind a sequence; seen around the first probe that the vocabulary can spell. */
function around(hub: HubTokenizer): [number[], number[]] {
  const isKnown = (id: number | undefined): id is number => id !== undefined;
  for (const text of ['a', ...probes, '.', '0', '-']) {
    const inner = idsOf(hub, text, false);
    const whole = idsOf(hub, text, true);
    if (inner.length === 0 || !inner.every(isKnown) || !whole.every(isKnown)) continue;
    for (let start = 0; start + inner.length <= whole.length; start++) {
      if (!same(whole.slice(start, start + inner.length), inner)) continue;
      return [whole.slice(0, start), whole.slice(start + inner.length)];
    }
  }
  return [[], []];
}
