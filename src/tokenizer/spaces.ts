/** Who puts the marker of a leading space (Ġ, ▁): taken out of a tokenizer.json, so that the caller decides by a space. */

type Json = Record<string, unknown>;

export interface BareTokenizer {
  tokenizer: Json;
  /** Whether the tokenizer itself puts a space before every text: LLaMA, T5, RoBERTa with add_prefix_space. */
  spaceAtStart: boolean;
}

/**
 * A tokenizer that adds no space of its own; the given one where there is nothing to take out. Three parts add one: the
 * pre-tokenizers ByteLevel and Metaspace, and the normalizer Prepend.
 * @param isTrimmed the tokenizer makes single spaces of others (remove_space of ALBERT and XLNet), and drops the first
 */
export function withoutOwnSpace(tokenizer: Json, isTrimmed = false): BareTokenizer {
  const found = { space: false, split: false };
  const preTokenizer = barePreTokenizer(tokenizer.pre_tokenizer, found);
  const normalizer = bareNormalizer(tokenizer.normalizer, found);
  if (!found.space) return { tokenizer, spaceAtStart: false };
  return {
    tokenizer: {
      ...tokenizer,
      pre_tokenizer: preTokenizer,
      normalizer: found.split || isTrimmed ? withSingleSpaces(normalizer) : normalizer,
    },
    spaceAtStart: true,
  };
}

type Found = { space: boolean; split: boolean };

function barePreTokenizer(value: unknown, found: Found): unknown {
  if (!isObject(value)) return value;
  if (value.type === 'Sequence' && Array.isArray(value.pretokenizers)) {
    const parts = value.pretokenizers;
    const bare = parts.map((part) => barePreTokenizer(part, found));
    // Each word gets its marker from Metaspace after such a split; without it, from the spaces that are left in.
    const splits = parts.findIndex((part) => isObject(part) && part.type === 'WhitespaceSplit');
    const marks = parts.findIndex((part) => isObject(part) && part.type === 'Metaspace');
    if (splits < 0 || marks < splits || !found.space) return { ...value, pretokenizers: bare };
    found.split = true;
    return { ...value, pretokenizers: bare.filter((_, i) => i !== splits) };
  }
  if (value.type === 'ByteLevel' && value.add_prefix_space === true) {
    found.space = true;
    return { ...value, add_prefix_space: false };
  }
  if (value.type === 'Metaspace' && value.prepend_scheme !== 'never' && value.add_prefix_space !== false) {
    found.space = true;
    return { ...value, prepend_scheme: 'never', add_prefix_space: false };
  }
  return value;
}

function bareNormalizer(value: unknown, found: Found): unknown {
  if (!isObject(value)) return value;
  if (value.type === 'Sequence' && Array.isArray(value.normalizers)) {
    const parts = value.normalizers.map((part) => bareNormalizer(part, found));
    return { ...value, normalizers: parts.filter((part) => part !== null) };
  }
  if (value.type !== 'Prepend') return value;
  found.space = true;
  return null;
}

function withSingleSpaces(normalizer: unknown): Json {
  const single = { type: 'Replace', pattern: { Regex: '\\s+' }, content: ' ' };
  return { type: 'Sequence', normalizers: isObject(normalizer) ? [normalizer, single] : [single] };
}

function isObject(value: unknown): value is Json {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
