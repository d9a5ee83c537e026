/** tokenizer.json behind the project's interface, over @huggingface/tokenizers. */
import { Tokenizer as HubTokenizer } from '@huggingface/tokenizers';
import { PtunedError } from '../errors.ts';
import type { SpecialTokens } from '../models/manifest.ts';
import { readTokenizerFiles } from './special.ts';
import type { Tokenizer } from './tokenizer.ts';

/** How a tokenizer marks the first word of a text. */
type Marker =
  /** WordPiece: words look the same everywhere. */
  | 'none'
  /** Byte-level BPE: a word after a space is another token (Ġ). */
  | 'space'
  /** Metaspace: the tokenizer itself puts the marker (▁) before every text. */
  | 'always';

/** @throws PtunedError missing_file, import_refused */
export async function loadTokenizer(directory: string): Promise<Tokenizer> {
  const { tokenizer: json, config, special } = readTokenizerFiles(directory);
  let hub: HubTokenizer;
  try {
    hub = new HubTokenizer(json, config);
  } catch (error) {
    throw new PtunedError(
      'import_refused',
      `${directory}/tokenizer.json is not accepted: ${(error as Error).message}`,
      { cause: error },
    );
  }
  const plain = (text: string): number[] => hub.encode(text, { add_special_tokens: false }).ids;
  const marker = markerOf(plain);
  const [prefix, suffix] = around(plain('a'), hub.encode('a', { add_special_tokens: true }).ids);
  return {
    vocabularySize: hub.get_vocab(true).size,
    special,
    prefix,
    suffix,
    encode(text, { afterSpace }) {
      if (text === '') return [];
      if (marker === 'space' && afterSpace) return plain(` ${text}`);
      return marker === 'always' && !afterSpace ? withoutMarker(plain, text) : plain(text);
    },
    decode: (ids) => hub.decode([...ids], { skip_special_tokens: true, clean_up_tokenization_spaces: false }),
    token: (id) => hub.id_to_token(id) ?? `#${id}`,
  };
}

/** Special tokens alone, for the import of an LM. @throws PtunedError missing_file, import_refused */
export async function readSpecialTokens(directory: string): Promise<SpecialTokens> {
  return readTokenizerFiles(directory).special;
}

function same(a: readonly number[], b: readonly number[]): boolean {
  return a.length === b.length && a.every((id, i) => id === b[i]);
}

/** Found by trying: what a leading space and a second space change. */
function markerOf(plain: (text: string) => number[]): Marker {
  if (same(plain('a'), plain(' a'))) return same(plain(' a'), plain('  a')) ? 'none' : 'space';
  // "b a" shows how a word looks inside a sentence: if a text alone looks the same, the marker is always put.
  return plain('b a').at(-1) === plain('a').at(-1) ? 'always' : 'space';
}

/** A word glued to what stands before it: encoded behind a line break, whose tokens are then taken away. */
function withoutMarker(plain: (text: string) => number[], text: string): number[] {
  const lead = plain('\n');
  const whole = plain(`\n${text}`);
  return same(whole.slice(0, lead.length), lead) ? whole.slice(lead.length) : plain(text);
}

/** What the post-processor puts before and behind a sequence. */
function around(inner: readonly number[], whole: readonly number[]): [number[], number[]] {
  for (let start = 0; start + inner.length <= whole.length; start++) {
    if (same(whole.slice(start, start + inner.length), inner)) {
      return [whole.slice(0, start), whole.slice(start + inner.length)];
    }
  }
  return [[], []];
}
