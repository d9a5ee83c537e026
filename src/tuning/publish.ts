/** What a run leaves in the artifact store: a folded prompt at evaluations, and the finished one with its encoder. */
import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import type { ArtifactManifest } from '../artifacts/format.ts';
import { encodePrompt, encoderFile, promptFile, wordsFile } from '../artifacts/prompt.ts';
import { encodeSafetensors, type StoredTensor } from '../artifacts/safetensors.ts';
import type { ArtifactStore } from '../artifacts/store.ts';
import { PtunedError } from '../errors.ts';
import type { JobResult, JobSpec, Metrics } from '../jobs/contract.ts';
import { planOf } from '../jobs/methods/registry.ts';
import type { EncoderShape, Parameters } from '../prompts/types.ts';
import { software } from './software.ts';
import type { Best } from './state.ts';
import type { TuningJob } from './types.ts';

type Written = Omit<ArtifactManifest, 'files'>;

export interface Publisher {
  /** Stores the table [n, H] of a step as a model of its own and returns its id. */
  publishCheckpoint(step: number, table: Float32Array, metrics: Metrics): Promise<string>;
  /** Removes a checkpoint model; returns its id. */
  removeCheckpoint(step: number): Promise<string>;
  publishResult(best: Best, result: JobResult): Promise<void>;
}

/** sha256 of a prompt table as float32 little-endian. */
export function hashTable(table: Float32Array): string {
  return createHash('sha256')
    .update(new Uint8Array(table.buffer, table.byteOffset, table.byteLength))
    .digest('hex');
}

/** The result of an earlier attempt that stored its prompt and died before it could say so, or null. */
export async function finishedEarlier(store: ArtifactStore, spec: JobSpec): Promise<JobResult | null> {
  if ((await store.version(spec.fineTunedModel)) === null) return null;
  try {
    const manifest = await store.get(spec.fineTunedModel);
    return manifest.jobId === spec.id ? manifest.result : null;
  } catch (error) {
    // A damaged one is made again and replaced.
    if (error instanceof PtunedError && error.code === 'damaged_artifact') return null;
    throw error;
  }
}

export function createPublisher(
  store: ArtifactStore,
  job: TuningJob,
  shape: EncoderShape,
  data: ArtifactManifest['data'],
): Publisher {
  const { spec, model } = job;
  const checkpointId = (step: number): string => `${spec.fineTunedModel}:ckpt-step-${step}`;

  function describe(id: string, step: number, metrics: Metrics, result: JobResult | null): Written {
    return {
      version: 1,
      id,
      owner: spec.owner,
      createdAt: Math.floor(Date.now() / 1000),
      jobId: spec.id,
      base: { id: model.id, hash: model.hash, tokenizerSha256: model.tokenizer.sha256 },
      kind: model.kind,
      method: spec.method,
      seed: spec.seed,
      data,
      virtualTokens: shape.virtualTokens,
      width: shape.width,
      place: planOf(spec.method).place,
      step,
      metrics,
      result,
      software: software(),
    };
  }

  const promptBytes = (table: Float32Array): Uint8Array => encodePrompt(table, shape.virtualTokens, shape.width);

  return {
    async publishCheckpoint(step, table, metrics) {
      const id = checkpointId(step);
      const files = { [promptFile]: promptBytes(table), ...(await wordsOf(job)) };
      await replace(store, describe(id, step, metrics, null), files);
      return id;
    },
    async removeCheckpoint(step) {
      const id = checkpointId(step);
      await store.remove(id).catch((error: unknown) => {
        if (!(error instanceof PtunedError && error.code === 'model_not_found')) throw error;
      });
      return id;
    },
    async publishResult(best, result) {
      await replace(store, describe(spec.fineTunedModel, best.step, best.metrics, result), {
        [promptFile]: promptBytes(best.table),
        [encoderFile]: encodeEncoder(best.parameters, shape),
        ...(await wordsOf(job)),
      });
    },
  };
}

/** Stores, or stores anew: where arithmetic is not repeatable (CUDA) a resumed run may bring other bytes. */
async function replace(store: ArtifactStore, manifest: Written, files: Record<string, Uint8Array>): Promise<void> {
  try {
    await store.put(manifest, files);
  } catch (error) {
    if (!(error instanceof PtunedError && error.code === 'conflict')) throw error;
    await store.remove(manifest.id);
    await store.put(manifest, files);
  }
}

/** The words a cloze prompt chooses among, when they came as a file: the prompt answers after that file is gone. */
async function wordsOf({ files }: TuningJob): Promise<Record<string, Uint8Array>> {
  return files.allowedWords === null ? {} : { [wordsFile]: await readFile(files.allowedWords) };
}

/** The encoder's parameters and, where the prompt started from words, their embeddings `base` [n, H]. */
function encodeEncoder(parameters: Parameters, shape: EncoderShape): Uint8Array {
  const tensors = new Map<string, StoredTensor>();
  for (const [name, { shape: dimensions, values }] of parameters) {
    tensors.set(name, { dtype: 'F32', shape: dimensions, data: values });
  }
  if (shape.base !== null) {
    tensors.set('base', { dtype: 'F32', shape: [shape.virtualTokens, shape.width], data: shape.base });
  }
  return encodeSafetensors(tensors, { type: shape.type, layers: String(shape.layers) });
}
