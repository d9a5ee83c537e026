/** A prompt encoder opened in this process. Implemented in src/prompts/open.ts over the project's own gradients. */
import type { Gradients } from './gradients.ts';
import type { EncoderType } from './schema.ts';

export interface EncoderShape {
  type: EncoderType;
  /** LSTM layers; ignored by the other encoders. */
  layers: number;
  /** Number of pseudo tokens n. */
  virtualTokens: number;
  /** Width of a row of the table: H of the LM's word embedding, or that of its keys and values (models/past.ts). */
  width: number;
  /**
   * Embeddings the pseudo tokens start from [n, H], or null. When given, the table is `base + encoder(…)` and the
   * encoder's last linear layer starts at zero, so training starts at these words.
   */
  base: Float32Array | null;
  /** Widths of a projection: of the embedding it begins with, and between its two layers. */
  projection?: { embedding: number; hidden: number };
}

/** Trainable tensors by PyTorch's names (embedding.weight, lstm.weight_ih_l0, …, mlp.2.bias), float32. */
export type Parameters = Map<string, { shape: number[]; values: Float32Array }>;

export interface PromptEncoder {
  readonly shape: EncoderShape;
  /** Parameters as PyTorch initialises these layers, from a seeded generator. */
  initialise(seed: number): Parameters;
  /** The folded prompt table h [n, H]. */
  forward(parameters: Parameters): Promise<Float32Array>;
  /**
   * Vector-Jacobian product of the last `forward`, with the parameters it was given: gradients of all of them from
   * dLoss/dh [n, H]. Same names and sizes.
   */
  gradient(parameters: Parameters, tableGradient: Float32Array): Promise<Gradients>;
  close(): Promise<void>;
}

/** src/prompts/open.ts exports `openEncoder(shape, options): Promise<PromptEncoder>`. */
export type OpenEncoder = (shape: EncoderShape, options: { threads: number }) => Promise<PromptEncoder>;
