/** A frozen LM opened in this process, as tuning and inference use it. Implemented in src/lm/open.ts. */
import type { ModelManifest } from '../models/manifest.ts';
import type { PromptPlace } from '../models/past.ts';
import type { Candidates } from '../tasks/types.ts';
import type { Past } from './past.ts';

export type Device = 'cpu' | 'cuda';

export interface LmOptions {
  /** Intra-op threads of onnxruntime; 0 lets it choose. */
  threads: number;
  device: Device;
  /** Bytes of keys and values that a predictor keeps of what rows begin with; default 0. */
  keptBytes?: number;
  /** Prefix of files that onnxruntime's own profile of each session is written to, for benchmarks. */
  profile?: string;
}

/**
 * Where the table of a step enters. behind: it replaces word embeddings of rows that stand behind keys and values of their
 * own, the batch's `contexts`. apart: what stands before the first pseudo token is computed without a gradient; for a causal
 * LM that shares prefixes.
 */
export type TablePlace = PromptPlace | 'behind' | 'apart';

/** A right-padded batch; all arrays are row-major [rows, length], `targets` is [rows]. */
export interface LmBatch {
  rows: number;
  length: number;
  ids: BigInt64Array;
  /** 1 for a token, 0 for padding. */
  mask: BigInt64Array;
  /** Row of the prompt table that replaces the word embedding here, -1 for none. */
  slots: BigInt64Array;
  /** Position whose logits are read; of the decoder where there is one. */
  targets: BigInt64Array;
  /** What an encoder-decoder LM's decoder is given, right-padded [rows, length]. */
  decoder?: { length: number; ids: BigInt64Array };
  /**
   * Keys and values before each row's first token, null for a row without; predictions only. Rows may have prefixes of
   * different lengths. A training step has one prefix, its table, for all rows.
   */
  prefixes?: readonly (PromptTable | null)[];
  /** What each row begins with, null where nothing is known of it; a hint for predictions. */
  leading?: readonly (Leading | null)[];
  /** Keys and values of the tokens before each row's first, null for a row without; for what is opened `behind` such. */
  contexts?: readonly (Past | null)[];
}

/**
 * The first `tokens` of a row. In every batch, rows with this key begin with the same tokens, prompt rows and prefix, so that
 * keys and values of them may be kept.
 */
export interface Leading {
  key: string;
  tokens: number;
}

/** Prompt rows [rows, width], float32. */
export interface PromptTable {
  rows: number;
  width: number;
  values: Float32Array;
}

export interface StepResult {
  /** Mean cross-entropy over the batch's rows. */
  loss: number;
  /** Cross-entropy of each row [batch rows]. */
  losses: Float32Array;
  /** Gradient of the weighted sum of the losses with respect to the table [rows, width]. */
  gradient: Float32Array;
  /** Jobs that shared the step, where it was shared. */
  jobs?: number;
}

export interface ScoreResult {
  /** Cross-entropy of each row. */
  loss: Float32Array;
  /** 0 when the right candidate scores highest; ties count against it. */
  rank: Int32Array;
  /** The candidate that scores highest. */
  best: Int32Array;
}

export interface Trainer {
  /** Its gradients are computed in float16: small ones are lost unless `weights` are large. */
  readonly half?: boolean;
  /**
   * Loss and gradient with respect to the prompt table; `labels` are candidate indices [rows]. `weights` [rows] say what
   * each row counts for in the gradient: 1/rows, the mean loss, unless given.
   */
  step(batch: LmBatch, labels: BigInt64Array, table: PromptTable, weights?: Float32Array): Promise<StepResult>;
  close(): Promise<void>;
}

export interface Scorer {
  score(batch: LmBatch, labels: BigInt64Array, table: PromptTable): Promise<ScoreResult>;
  /**
   * Keys and values of a text read from the beginning, the same bits whenever it is read; of scorers opened `behind` such.
   */
  read?(ids: readonly number[]): Promise<Past>;
  close(): Promise<void>;
}

/** An LM in the middle of generating for several rows. */
export interface Decoding {
  /** Rows still generating, as indices into the batch that began. */
  readonly rows: readonly number[];
  /** Logits of the next token [rows.length, vocabulary]. */
  readonly logits: Float32Array;
  /** Appends one token to each row of `rows`, in their order, and computes the next logits. */
  advance(tokens: readonly number[]): Promise<void>;
  /** Keeps only these (a subset of `rows`). */
  keep(rows: readonly number[]): void;
}

export interface Predictor {
  /** Logits at the targets [rows, vocabulary]. Rows may use different parts of one table: different tuned prompts. */
  logits(batch: LmBatch, table: PromptTable): Promise<Float32Array>;
  /**
   * Starts generation after each row's last token, of an encoder-decoder LM behind the decoder ids up to each target; a causal
   * LM ignores the targets.
   * @throws PtunedError wrong_model_kind for a masked LM
   */
  decode(batch: LmBatch, table: PromptTable): Promise<Decoding>;
  close(): Promise<void>;
}

export interface Lm {
  readonly manifest: ModelManifest;
  /** Word embeddings of the ids [ids.length, width]. */
  embeddings(ids: readonly number[]): Promise<Float32Array>;
  /** Mean of the word-embedding table [width]. */
  meanEmbedding(): Promise<Float32Array>;
  /** Every word embedding's product with a vector [width]: [vocabulary]. Never holds the whole table. */
  products(vector: Float32Array): Promise<Float32Array>;
  /**
   * Keys and values of a text read from the beginning, as a prefix [ids.length, layers · 2 · kv_heads · head_dim]. For
   * LMs with a cache only.
   */
  keysAndValues(ids: readonly number[]): Promise<Float32Array>;
  /** `place` is where the tables of its steps enter; default embeddings. */
  trainer(candidates: Candidates, place?: TablePlace): Promise<Trainer>;
  scorer(candidates: Candidates, place?: TablePlace): Promise<Scorer>;
  predictor(): Promise<Predictor>;
  close(): Promise<void>;
}

/** src/lm/open.ts exports `openLm(manifest, options): Promise<Lm>`. */
export type OpenLm = (manifest: ModelManifest, options: LmOptions) => Promise<Lm>;
