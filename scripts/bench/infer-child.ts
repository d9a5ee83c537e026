/** The inference server as it runs in production, over one LM and tuned prompts of random numbers, in a process of its own. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ArtifactManifest } from '../../src/artifacts/format.ts';
import { encodePrompt } from '../../src/artifacts/prompt.ts';
import { type ArtifactStore, createArtifactStore } from '../../src/artifacts/store.ts';
import { buildInferenceServer } from '../../src/inference/server.ts';
import type { ResolvedHyperparameters } from '../../src/jobs/hyperparameters.ts';
import { createLogger } from '../../src/logger.ts';
import type { ModelManifest } from '../../src/models/manifest.ts';
import { createModelRegistry } from '../../src/models/registry.ts';
import { software } from '../../src/tuning/software.ts';

export interface ServerTask {
  manifest: ModelManifest;
  prompts: number;
  threads: number;
}

export interface ServerReady {
  url: string;
  /** Ids of the tuned prompts. */
  prompts: string[];
}

const template = [{ virtual: 3 }, { field: 'text' }, { virtual: 3 }, { target: 'word' }] as const;
const virtualTokens = 6;

process.once('message', async (task) => {
  const { manifest, prompts, threads } = task as ServerTask;
  const directory = await mkdtemp(join(tmpdir(), 'ptuned-bench-'));
  const models = createModelRegistry(directory);
  await models.put(manifest);
  const artifacts = createArtifactStore(join(directory, 'artifacts'));
  const ids: string[] = [];
  for (let i = 0; i < prompts; i++) ids.push(await storePrompt(artifacts, manifest, i));
  const config = { threads, device: 'cpu' as const };
  const server = await buildInferenceServer({ config, logger: createLogger('bench', 'error'), models, artifacts });
  process.once('disconnect', async () => {
    await server.close();
    await rm(directory, { recursive: true, force: true });
    process.exit(0);
  });
  const url = await server.listen({ host: '127.0.0.1', port: 0 });
  process.send!({ url, prompts: ids } satisfies ServerReady);
});

async function storePrompt(artifacts: ArtifactStore, base: ModelManifest, number: number): Promise<string> {
  const { width } = base.embedding;
  const table = Float32Array.from({ length: virtualTokens * width }, (_, i) => 0.1 * Math.sin(number + i * 1.7));
  const hyperparameters: ResolvedHyperparameters = {
    ...{ preset: 'auto', learning_rate: 1e-3, n_epochs: 1, batch_size: 8, max_steps: null, optimizer: 'adam' },
    ...{ weight_decay: 0, schedule: 'constant', gamma: 1, warmup_ratio: 0, gradient_clip: null },
    ...{ evaluate_every: 'epoch', patience: 1, drop_last: false, group_by_length: false },
  };
  const manifest: Omit<ArtifactManifest, 'files'> = {
    version: 1,
    id: `ft:${base.id}:local:bench-${number}:0`,
    owner: 'local',
    createdAt: 0,
    jobId: 'ftjob-bench',
    base: { id: base.id, hash: base.hash, tokenizerSha256: base.tokenizer.sha256 },
    kind: base.kind,
    method: {
      type: 'p_tuning',
      template: [...template],
      encoder: { type: 'lstm', layers: 2 },
      task: { type: 'cloze', metric: 'p_at_1' },
      hyperparameters,
    },
    seed: number,
    data: { train: '0'.repeat(64), validation: null, test: null },
    virtualTokens,
    width,
    step: 0,
    metrics: {},
    result: null,
    software: software(),
  };
  await artifacts.put(manifest, { 'prompt.safetensors': encodePrompt(table, virtualTokens, width) });
  return manifest.id;
}
