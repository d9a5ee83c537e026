/** An inference server over fake LMs with the demo LMs' tokenizers, and tuned prompts in a store of its own. */
import { createHash } from 'node:crypto';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { FastifyInstance } from 'fastify';
import type { ArtifactManifest } from '../../src/artifacts/format.ts';
import { encodePrompt } from '../../src/artifacts/prompt.ts';
import { type ArtifactStore, createArtifactStore } from '../../src/artifacts/store.ts';
import type { Limits } from '../../src/inference/limits.ts';
import { buildInferenceServer } from '../../src/inference/server.ts';
import type { OpenServingLm } from '../../src/inference/threaded-lm.ts';
import { createLogger } from '../../src/logger.ts';
import type { ModelManifest } from '../../src/models/manifest.ts';
import type { Task, Template } from '../../src/tasks/schema.ts';
import { virtualTokens } from '../../src/tasks/template.ts';
import { loadTokenizer } from '../../src/tokenizer/load.ts';
import { exampleManifest } from './artifact.ts';
import { createFakeLm, type FakeLm, type FakeLmOptions, fakeManifest } from './fake-lm.ts';

export const demoModels = new URL('../../demo/models/', import.meta.url).pathname;

export interface Answer {
  status: number;
  headers: Headers;
  // biome-ignore lint/suspicious/noExplicitAny: tests read whatever shape they expect
  body: any;
}

export interface TestServer {
  url: string;
  app: FastifyInstance;
  artifacts: ArtifactStore;
  directory: string;
  models: Map<string, ModelManifest>;
  /** Fake LMs by id, once opened. */
  lms: Map<string, FakeLm>;
  post(path: string, body: unknown, owner?: string, signal?: AbortSignal): Promise<Answer>;
  /** Stores a tuned prompt and returns its id. */
  tune(model: string, name: string, template: Template, task: Task, parts?: Partial<ArtifactManifest>): Promise<string>;
  close(): Promise<void>;
}

export interface TestServerOptions {
  limits?: Partial<Limits>;
  lm?: Partial<FakeLmOptions>;
  /** Opens real LMs instead of fake ones; `models` are then theirs. */
  openLm?: OpenServingLm;
  models?: ModelManifest[];
}

/** A fake LM's manifest with the tokenizer of a demo LM. */
async function demoManifest(kind: 'masked' | 'causal'): Promise<ModelManifest> {
  const directory = join(demoModels, kind === 'masked' ? 'demo-bert' : 'demo-gpt2');
  const { special, vocabularySize } = await loadTokenizer(directory);
  const bytes = await readFile(join(directory, 'tokenizer.json'));
  const sha256 = createHash('sha256').update(bytes).digest('hex');
  return fakeManifest({
    id: kind,
    kind,
    directory,
    tokenizer: { path: 'tokenizer.json', bytes: bytes.length, sha256 },
    specialTokens: special,
    vocabularySize,
    maxLength: 64,
    hash: createHash('sha256').update(kind).digest('hex'),
  });
}

/** A listening server. With fake LMs these are "masked" and "causal". */
export async function startTestServer(options: TestServerOptions = {}): Promise<TestServer> {
  const directory = await mkdtemp(join(tmpdir(), 'ptuned-inference-'));
  const artifacts = createArtifactStore(directory);
  const manifests = options.models ?? [await demoManifest('masked'), await demoManifest('causal')];
  const models = new Map(manifests.map((manifest) => [manifest.id, manifest]));
  const lms = new Map<string, FakeLm>();
  const openFake: OpenServingLm = async ({ id, kind, vocabularySize, embedding: { width } }) => {
    const lm = createFakeLm({ kind, vocabulary: vocabularySize, width, ...options.lm });
    lms.set(id, lm);
    return lm;
  };
  const app = await buildInferenceServer({
    config: { threads: 1, device: 'cpu' },
    logger: createLogger('test', 'silent'),
    models: { get: async (id) => models.get(id) ?? null },
    artifacts,
    ...(options.openLm === undefined && options.models !== undefined ? {} : { openLm: options.openLm ?? openFake }),
    limits: options.limits ?? {},
  });
  const url = await app.listen({ host: '127.0.0.1', port: 0 });
  return {
    url,
    app,
    artifacts,
    directory,
    models,
    lms,
    post: (path, body, owner, signal) => post(url + path, body, owner, signal),
    tune: (model, name, template, task, parts) => tune(artifacts, models.get(model)!, name, template, task, parts),
    async close() {
      await app.close();
      await rm(directory, { recursive: true, force: true });
    },
  };
}

async function post(url: string, body: unknown, owner = 'local', signal?: AbortSignal): Promise<Answer> {
  const response = await fetch(url, {
    method: 'POST',
    headers: { 'content-type': 'application/json', 'x-ptuned-owner': owner },
    body: typeof body === 'string' ? body : JSON.stringify(body),
    ...(signal === undefined ? {} : { signal }),
  });
  const text = await response.text();
  const isJson = response.headers.get('content-type')?.startsWith('application/json');
  return { status: response.status, headers: response.headers, body: isJson ? JSON.parse(text) : text };
}

async function tune(
  artifacts: ArtifactStore,
  base: ModelManifest,
  name: string,
  template: Template,
  task: Task,
  { files: _files, ...parts }: Partial<ArtifactManifest> = {},
): Promise<string> {
  const owner = parts.owner ?? 'local';
  const rows = virtualTokens(template);
  const { width } = base.embedding;
  const example = exampleManifest({ id: `ft:${base.id}:${owner}:${name}:0` });
  const metric = task.type === 'cloze' ? 'p_at_1' : 'accuracy';
  const manifest = {
    ...example,
    owner,
    kind: base.kind,
    base: { id: base.id, hash: base.hash, tokenizerSha256: base.tokenizer.sha256 },
    method: { ...example.method, template, task: { ...task, metric } as typeof example.method.task },
    virtualTokens: rows,
    width,
    ...parts,
  };
  // Each name has numbers of its own.
  const seed = [...name].reduce((sum, letter) => sum * 31 + letter.charCodeAt(0), 7);
  const table = Float32Array.from({ length: rows * width }, (_, i) => Math.sin(seed + i * 1.7));
  await artifacts.put(manifest, { 'prompt.safetensors': encodePrompt(table, rows, width) });
  return manifest.id;
}
