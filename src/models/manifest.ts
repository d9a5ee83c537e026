/** What is known of a frozen LM once it was imported. Written by src/lm/import.ts, read by everyone. */

import type { LmKind } from './schema.ts';

export type InputRole =
  | 'input_ids'
  | 'attention_mask'
  | 'position_ids'
  | 'token_type_ids'
  | 'decoder_input_ids'
  | 'decoder_attention_mask'
  | 'global_attention_mask'
  | 'past';

export interface ModelInput {
  name: string;
  role: InputRole;
  /** ONNX element type in words: int64, int32, float32, float16. */
  dtype: string;
  /** Symbolic dimensions keep their names, unknown ones are null. */
  shape: (number | string | null)[];
}

/** What whoever imports an LM decides. */
export interface ImportOptions {
  /** Id in the registry. Default: the folder's name. */
  id?: string | undefined;
  /** Name of the node that looks up word embeddings. Default: the only one that does. */
  embedding?: string | undefined;
  /** The graph, relative to the folder. Default: the one of a usual name, else the only one. */
  graph?: string | undefined;
}

export interface ModelFile {
  /** Relative to the model's directory. */
  path: string;
  bytes: number;
  sha256: string;
}

export interface SpecialTokens {
  pad: number | null;
  mask: number | null;
  bos: number | null;
  eos: number | null;
  unk: number | null;
  cls: number | null;
  sep: number | null;
}

/** What the decoder of an encoder-decoder LM is given, and what stands for a target in the text it answers. */
export interface DecoderStart {
  /** Ids that begin every answer. */
  start: number[];
  /** Token in a target's place in the text: a sentinel, else the mask; null where the tokenizer has neither. */
  mark: number | null;
  /** Whether an answer repeats the text before the mark (denoising LMs: BART), or begins with the mark itself (T5). */
  repeats: boolean;
  /** Tokens that end an answer besides the end of text: the sentinel of a next gap. */
  ends: number[];
  /** Tokens that an answer never has (Marian: the padding, which begins it); absent: none. */
  never?: number[];
}

/**
 * Tokens of a batch that need not be computed, since no logits depend on them: padding alone, or also a prefix that a row
 * shares with another row.
 */
export type Redundancy = 'padding' | 'prefixes';

export interface ModelManifest {
  version: 1;
  /** Url-safe, unique in the registry: [A-Za-z0-9._-]+ */
  id: string;
  kind: LmKind;
  /** architectures[0] of config.json, or its model_type. */
  architecture: string;
  /** Absolute path of the directory that was imported; weights stay there. */
  directory: string;
  /** Relative path of the graph with the logits: model.onnx, onnx/model.onnx, decoder_model.onnx … */
  graph: string;
  /** Opset of the default domain. */
  opset: number;
  /** Graph and weight files. */
  files: ModelFile[];
  /** sha256 over paths and hashes of `files`: the identity a tuned prompt is bound to. */
  hash: string;
  tokenizer: ModelFile;
  inputs: ModelInput[];
  /** Name of the logits output [batch, sequence, vocabulary]. */
  logits: string;
  embedding: {
    /** The lookup and its output, which the spliced prompt rows replace; a node without a name has its output's. */
    node: string;
    output: string;
    weight: string;
    /** Width of the word embedding = width of a prompt row. */
    width: number;
    dtype: string;
  };
  vocabularySize: number;
  /** Longest sequence the LM takes, pseudo tokens included. */
  maxLength: number;
  specialTokens: SpecialTokens;
  /** Of an encoder-decoder LM only. */
  decoder?: DecoderStart;
  parameters: number;
  weightBytes: number;
  /** Nodes on the path from the embedding to the logits that need a gradient, by op. */
  gradientPath: Record<string, number>;
  /** Ops of the gradient path that round: their gradient is straight-through, that of the LM before rounding. */
  straightThrough?: string[];
  /** Fused attention turns queries and keys itself, at places counted from the mask: position_ids are not needed. */
  countsPositions?: true;
  /** Why a prefix cannot be trained, found by a trial at import; where it can, and of other kinds of LM, absent. */
  prefixRefusal?: string;
  /** Measured at import; without it every token is computed. */
  redundant?: Redundancy;
  /** Rows train behind kept keys and values of their first tokens as whole ones do; measured at import. */
  contexts?: true;
  /**
   * Of an encoder-decoder LM whose decoder goes on from its cache, as measured at import: the files only that needs, none where
   * it is in `files`. Without it generation runs the whole decoder for each token.
   */
  cachedDecoder?: ModelFile[];
  /** ISO time of the import. */
  createdAt: string;
}
