/** What `ptuned models inspect` tells of an LM before anyone registers it. Made by src/lm/report.ts. */

import type { ModelInput } from './manifest.ts';
import type { LmKind } from './schema.ts';

export interface InspectionRequest {
  /** Rows of a batch and tokens of a row, pseudo tokens included, that the memory is estimated for. */
  batch: number;
  length: number;
}

export interface MemoryEstimate extends InspectionRequest {
  /** Bytes of the weights as the runtime holds them on this machine: packed for its products, or mapped from their files. */
  weights: number;
  packed: boolean;
  /** Most bytes of values that a training step holds at once. */
  activations: number;
  /** Bytes of the process without any of that. */
  process: number;
  /** Values whose size is not known before the run; they are not counted. */
  unknown: number;
}

export interface Inspection {
  directory: string;
  /** The graph with the logits, and other graphs in the folder that could be meant, relative to it. */
  graph: string;
  otherGraphs: string[];
  kind: LmKind;
  architecture: string;
  parameters: number;
  weightBytes: number;
  /** Parameters by how they are stored. */
  precision: Record<string, number>;
  /** Domain to version. */
  opsets: Record<string, number>;
  exporter: string;
  nodes: number;
  inputs: ModelInput[];
  logits: string;
  vocabularySize: number;
  /** Tokens of the longest row, pseudo tokens included. */
  maxLength: number;
  embedding: { op: string; node: string; weight: string; width: number; dtype: string };
  /** Ops between the word embedding and the logits, counted after lowering. */
  gradientPath: Record<string, number>;
  /** Ops among them without a gradient rule: op to one of its nodes. An LM with any is refused. */
  missing: Record<string, string>;
  straightThrough: string[];
  /** What was rewritten before training, in words. */
  lowering: string[];
  /** Why no prefix can be trained before its first token; null where one can. */
  prefixRefusal: string | null;
  /** Null where a rule is missing. */
  memory: MemoryEstimate | null;
}
