/** Sizes of a generated LM. */

export interface LmShape {
  layers: number;
  hidden: number;
  heads: number;
  /** Fewer key/value heads than heads: grouped-query attention (llama only). */
  keyValueHeads: number;
  intermediate: number;
  vocabulary: number;
  /** Longest sequence. */
  positions: number;
}

/** How the LM head holds its weight: a transposed copy as Optimum writes it, or a Transpose of the embedding itself. */
export type Head = 'copy' | 'tied';

/** Elements of every weight matrix; norms, biases and the arithmetic between are float32 or half precision with them. */
export type Precision = 'float32' | 'float16';
