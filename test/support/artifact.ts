/** A small tuned prompt as tuning would store it. */
import type { ArtifactManifest } from '../../src/artifacts/format.ts';
import { encodePrompt } from '../../src/artifacts/prompt.ts';
import { encodeSafetensors } from '../../src/artifacts/safetensors.ts';

type Unfiled = Omit<ArtifactManifest, 'files'>;

/** A manifest of a cloze prompt `P P {country} {target}` on a causal LM; any part may be given. */
export function exampleManifest(parts: Partial<Unfiled> & { id: string }): Unfiled {
  return {
    version: 1,
    owner: 'local',
    createdAt: 1_700_000_000,
    jobId: 'ftjob-1',
    base: { id: 'fake-causal', hash: 'a'.repeat(64), tokenizerSha256: 'b'.repeat(64) },
    kind: 'causal',
    method: {
      type: 'p_tuning',
      template: [{ virtual: 2 }, { field: 'country' }, { target: 'capital' }],
      encoder: { type: 'lstm', layers: 2 },
      task: { type: 'cloze', metric: 'p_at_1' },
      hyperparameters: {
        preset: 'auto',
        learning_rate: 1e-3,
        n_epochs: 8,
        batch_size: 8,
        max_steps: null,
        optimizer: 'adam',
        weight_decay: 0,
        schedule: 'constant',
        gamma: 1,
        warmup_ratio: 0,
        gradient_clip: null,
        evaluate_every: 'epoch',
        patience: 5,
        drop_last: false,
        group_by_length: false,
      },
    },
    seed: 34,
    data: { train: 'c'.repeat(64), validation: null, test: null },
    virtualTokens: 2,
    width: 8,
    step: 100,
    metrics: { p_at_1: 0.75 },
    result: null,
    software: { ptuned: '0.1.0', onnxruntime: '1.30.0', node: process.versions.node },
    ...parts,
  };
}

/** Files of an artifact: a table [rows, width] whose numbers depend on `seed`, and an encoder tensor. */
export function exampleFiles(rows: number, width: number, seed: number): Record<string, Uint8Array> {
  const table = Float32Array.from({ length: rows * width }, (_, i) => Math.sin(i * 1.7 + seed));
  const encoder = new Map([['embedding.weight', { dtype: 'F32' as const, shape: [rows, width], data: table }]]);
  return { 'prompt.safetensors': encodePrompt(table, rows, width), 'encoder.safetensors': encodeSafetensors(encoder) };
}
