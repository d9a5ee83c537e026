/** What the server's thread and an LM's thread say to each other. */
import type { FailureRecord } from '../errors.ts';
import type { LmBatch, LmOptions, PromptTable } from '../lm/types.ts';
import type { ModelManifest } from '../models/manifest.ts';

/** workerData of an LM's thread: the LM it opens at once. */
export interface ThreadStart {
  manifest: ModelManifest;
  options: LmOptions;
}

export type Call =
  | { op: 'ready' }
  | { op: 'logits'; batch: LmBatch; table: PromptTable }
  | { op: 'decode'; batch: LmBatch; table: PromptTable }
  /** Goes on with these rows only (a subset of those at the last answer). */
  | { op: 'advance'; decoding: number; rows: readonly number[]; tokens: readonly number[] }
  | { op: 'drop'; decoding: number }
  | { op: 'close' };

export interface CallMessage {
  id: number;
  call: Call;
}

/** Answer to decode and advance: the rows left and their logits [rows, vocabulary]. */
export interface DecodingState {
  decoding: number;
  rows: readonly number[];
  logits: Float32Array;
}

export type Result = Float32Array | DecodingState | null;

export type AnswerMessage = { id: number } & ({ result: Result } | { failure: FailureRecord });
