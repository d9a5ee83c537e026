/** What a stored tuned prompt says about itself (manifest.json beside prompt.safetensors and encoder.safetensors). */

import type { JobResult, Metrics } from '../jobs/contract.ts';
import type { ResolvedMethod } from '../jobs/method.ts';
import type { ModelFile } from '../models/manifest.ts';
import type { PromptPlace } from '../models/past.ts';
import type { LmKind } from '../models/schema.ts';

export interface ArtifactManifest {
  version: 1;
  /** Model id: ft:{base}:{owner}:{suffix}:{id}, with :ckpt-step-{n} behind it for a checkpoint. */
  id: string;
  owner: string;
  /** Unix seconds. */
  createdAt: number;
  jobId: string;
  base: { id: string; hash: string; tokenizerSha256: string };
  kind: LmKind;
  method: ResolvedMethod;
  seed: number;
  /** sha256 of the training, validation and test files as uploaded. */
  data: { train: string; validation: string | null; test: string | null };
  virtualTokens: number;
  /** Numbers a row of the prompt has: the LM's embedding width, or that of its keys and values. */
  width: number;
  /** Where the prompt enters the LM; absent (before there was a choice): embeddings. */
  place?: PromptPlace;
  step: number;
  metrics: Metrics;
  /** Null for a checkpoint. */
  result: JobResult | null;
  software: { ptuned: string; onnxruntime: string; node: string };
  /** Files beside the manifest with their hashes; written last, so a manifest vouches for what it names. */
  files: ModelFile[];
}
