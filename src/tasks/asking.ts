/** How an LM is asked for the target of a row: what stands in its place, and where the answer is read. */
import type { DecoderStart } from '../models/manifest.ts';
import type { LmKind } from '../models/schema.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';

/** What of an LM decides that; a part of its manifest. */
export interface AskedLm {
  kind: LmKind;
  decoder?: DecoderStart;
}

export interface Asking {
  /** Token in the target's place; null where nothing stands there, so that the target ends the template. */
  mark: number | null;
  /** Whether the row goes on behind its target, at least with what the tokenizer puts behind a text. */
  isClosed: boolean;
  /** Null for an LM without a decoder of its own. */
  decoder: DecoderStart | null;
}

/** A masked LM's mark is the tokenizer's mask, null where it has none. */
export function askingOf({ kind, decoder }: AskedLm, { special }: Pick<Tokenizer, 'special'>): Asking {
  if (decoder !== undefined) return { mark: decoder.mark, isClosed: true, decoder };
  const isMasked = kind === 'masked';
  return { mark: isMasked ? special.mask : null, isClosed: isMasked, decoder: null };
}

/** Why the target must end a template for this LM; null where it may stand anywhere. */
export function endsWithTarget({ kind, decoder }: AskedLm): string | null {
  if (kind === 'causal')
    return 'for a causal LM the target ends the template, since it is read from what stands before it';
  if (decoder?.mark === null)
    return 'the tokenizer of this encoder-decoder LM has no mask token or sentinel that could stand in the target’s place';
  return null;
}

/**
 * Ids a decoder is given to answer with the target: its start, and what leads up to the mark. An LM that was trained to
 * repeat the text with what is missing (BART) is given the `text` before the mark; one that answers each mark (T5) is
 * given the mark. What follows is the target.
 */
export function decoderIds({ start, mark, repeats }: DecoderStart, text: readonly number[]): number[] {
  if (mark === null) return [...start];
  return repeats ? [...start, ...text] : [...start, mark];
}
