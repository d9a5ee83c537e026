/** The key/value cache of a decoder export: where the keys and values of a prefix are fed. */
import type { ModelInput, ModelManifest } from './manifest.ts';

/**
 * Where a prompt table enters the LM. embeddings: its rows replace word embeddings where slots say so, width H. past: its
 * rows are the keys and values of tokens before the first one, width {@link prefixWidth}.
 */
export type PromptPlace = 'embeddings' | 'past';

/** Keys or values of one layer: [batch, heads, past, size]. */
export interface PastInput {
  name: string;
  heads: number;
  size: number;
}

/**
 * Inputs for past keys and values layer by layer, keys before values, which is how the columns of a prefix table lie.
 * Optimum writes them in this order, onnxruntime-genai all keys first.
 */
export function pastInputs(inputs: readonly ModelInput[]): PastInput[] {
  const past = inputs.filter((input) => input.role === 'past');
  const layerOf = ({ name }: ModelInput) => Number(/\d+/.exec(name)?.[0] ?? 0);
  return past
    .sort((a, b) => layerOf(a) - layerOf(b))
    .map(({ name, shape }) => ({ name, heads: Number(shape[1]), size: Number(shape[3]) }));
}

/** The output that a past input is in the next step. */
export function presentOf(name: string): string {
  return name.replace(/^past_key_values/, 'present');
}

/**
 * Numbers one token has in the cache: layers · 2 · kv_heads · head_dim. A prefix of n tokens is a table [n, width] in
 * PEFT's layout: each row holds the keys and values of every layer, in the order of {@link pastInputs}.
 */
export function prefixWidth(inputs: readonly ModelInput[]): number {
  return pastInputs(inputs).reduce((sum, { heads, size }) => sum + heads * size, 0);
}

const widths: Record<PromptPlace, (model: Pick<ModelManifest, 'embedding' | 'inputs'>) => number> = {
  embeddings: ({ embedding }) => embedding.width,
  past: ({ inputs }) => prefixWidth(inputs),
};

/** Width of a prompt table that enters an LM at this place. */
export function promptWidth(place: PromptPlace, model: Pick<ModelManifest, 'embedding' | 'inputs'>): number {
  return widths[place](model);
}

/** Tokens of a prompt [rows] that stand before every row and in no template. */
export function tokensBefore(place: PromptPlace, rows: number): number {
  return place === 'past' ? rows : 0;
}

const howToExport =
  'export it with its cache: optimum-cli export onnx --model … --task text-generation-with-past, which gives the inputs past_key_values.*, attention_mask and position_ids';

/**
 * Why keys and values cannot be put before the first token of this LM, or null. Rows with prefixes of different lengths
 * share a batch, so what a row does not have is masked, and its positions are given, not counted from the cache.
 */
export function refusePrefix({
  id,
  kind,
  inputs,
  countsPositions,
  prefixRefusal,
}: Pick<ModelManifest, 'id' | 'kind' | 'inputs' | 'countsPositions' | 'prefixRefusal'>): string | null {
  if (prefixRefusal !== undefined) return prefixRefusal;
  if (kind !== 'causal') {
    return `"${id}" is a ${kind} LM, which has no key/value cache to put a prefix into; a decoder exported with its cache is accepted (${howToExport})`;
  }
  const has = (role: ModelInput['role']) => inputs.some((input) => input.role === role);
  if (!has('past')) return `the export of "${id}" has no past_key_values inputs; ${howToExport}`;
  for (const role of ['attention_mask', 'position_ids'] as const) {
    if (!has(role) && !(role === 'position_ids' && countsPositions))
      return `the export of "${id}" has no input ${role}, which a prefix needs; ${howToExport}`;
  }
  const odd = inputs.find(({ role, shape }) => role === 'past' && !isUsual(shape));
  if (odd === undefined) return null;
  return `past input "${odd.name}" of "${id}" has the shape [${odd.shape.join(', ')}]; [batch, heads, past, size] with known heads and size is accepted`;
}

/**
 * Whether rows of different lengths can go on from a cache: positions are given, or counted from the mask, and padding is
 * masked.
 */
export function hasCache(inputs: readonly ModelInput[], countsPositions = false): boolean {
  const has = (role: ModelInput['role']) => inputs.some((input) => input.role === role);
  const usual = inputs.every(({ role, shape }) => role !== 'past' || isUsual(shape));
  return has('past') && (has('position_ids') || countsPositions) && has('attention_mask') && usual;
}

/** [batch, heads, past, size] with known heads and size. */
function isUsual(shape: ModelInput['shape']): boolean {
  return shape.length === 4 && typeof shape[1] === 'number' && typeof shape[3] === 'number';
}
