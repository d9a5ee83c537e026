/** A dataset row after rendering, and what a task asks of the LM's logits. */

/** One row as the LM reads it. */
export interface RenderedRow {
  /** Token ids [length]; at a pseudo token any harmless id that is not padding. */
  ids: number[];
  /** Row of the prompt table at each position, -1 where the word embedding stays [length]. */
  slots: number[];
  /**
   * Position whose logits are read: the mask (masked LM), the token before the target (causal LM), or that of the
   * decoder's ids (encoder-decoder LM).
   */
  target: number;
  /** What an encoder-decoder LM's decoder is given; `ids` are the text it answers. */
  decoder?: number[];
  /** Index of the right candidate, or -1 when the row has no label (inference). */
  label: number;
  /** Tokens cut from shortenable fields. */
  cut: number;
}

/** Tokens from which generation goes on: the decoder's, else the row's own. */
export function generatedFrom({ ids, decoder }: Pick<RenderedRow, 'ids' | 'decoder'>): number[] {
  return decoder ?? ids;
}

/**
 * The choices a task scores. Score of candidate l = sum over k of weights[l, k] · logits[ids[l, k]].
 * A cloze task has one token a candidate (width 1, weight 1); a verbalizer of k words has weights 1/k.
 */
export interface Candidates {
  count: number;
  width: number;
  /** Token ids [count · width]. */
  ids: Int32Array;
  /** Weights [count · width]; 0 pads short verbalizers. */
  weights: Float32Array;
  /** What a candidate is called: the word or the label. */
  names: string[];
}
