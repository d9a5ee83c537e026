/** The API over real parts: Redis, files, the demo LMs in a registry; for tests of its routes. */
import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TSchema } from 'typebox';
import { Value } from 'typebox/value';
import { type App, createApp } from '../../src/api/app.ts';
import { createInferenceClient } from '../../src/api/inference-client.ts';
import { projectFolder } from '../../src/api/project.ts';
import type { ApiServices } from '../../src/api/services.ts';
import { createArtifactStore } from '../../src/artifacts/store.ts';
import { type Config, readConfig } from '../../src/config.ts';
import { createFileStore } from '../../src/data/files.ts';
import { createJobs } from '../../src/jobs/jobs.ts';
import { createJobValidator } from '../../src/jobs/validate.ts';
import { importModel } from '../../src/lm/import.ts';
import { createLogger } from '../../src/logger.ts';
import { preflightModel } from '../../src/models/preflight.ts';
import { createModelRegistry } from '../../src/models/registry.ts';
import { loadTokenizer } from '../../src/tokenizer/load.ts';

export interface TestService extends ApiServices {
  app: App;
  /** Puts a demo LM into the registry without HTTP. */
  registerDemo(id: 'demo-bert' | 'demo-gpt2'): Promise<void>;
  /** Uploads rows as JSONL (or text as it is) and resolves with the file's id. */
  upload(content: object[] | string, headers?: Record<string, string>): Promise<string>;
  close(): Promise<void>;
}

export const shippedModels = join(projectFolder(), 'demo', 'models');

export async function startTestService(options: {
  redisUrl: string;
  config?: Partial<Config>;
  inferenceUrl?: string;
  maxFileBytes?: number;
  prefix?: string;
}): Promise<TestService> {
  const dataDirectory = await mkdtemp(join(tmpdir(), 'ptuned-api-'));
  const config = { ...readConfig({ PTUNED_DATA: dataDirectory }), ...options.config };
  const logger = createLogger('api-test', 'silent');
  const files = createFileStore(dataDirectory);
  const models = createModelRegistry(dataDirectory);
  const prefix = options.prefix ?? 'ptuned';
  const services: ApiServices = {
    config,
    logger,
    jobs: createJobs({ redisUrl: options.redisUrl, dataDirectory, logger, prefix }),
    files,
    models,
    artifacts: createArtifactStore(join(dataDirectory, 'artifacts')),
    inference: createInferenceClient({ url: options.inferenceUrl ?? 'http://127.0.0.1:9' }),
    validateJob: createJobValidator({ models, files, loadTokenizer }),
    preflightModel,
    projectDirectory: projectFolder(),
    shippedModels,
    ...(options.maxFileBytes === undefined ? {} : { maxFileBytes: options.maxFileBytes }),
  };
  const app = await createApp(services);
  const undocumented = checkAnswers(app);
  return {
    ...services,
    app,
    async registerDemo(id) {
      await models.put(await importModel(join(shippedModels, id), { id }));
    },
    async upload(content, headers = {}) {
      const text = typeof content === 'string' ? content : content.map((row) => JSON.stringify(row)).join('\n');
      // A name that says nothing of the content: what is wrong with a line is then for a job to find.
      const filename = typeof content === 'string' ? 'rows.txt' : 'rows.jsonl';
      const { payload, contentType } = uploadForm({ purpose: 'fine-tune' }, text, 'file', true, filename);
      const all = { ...headers, 'content-type': contentType };
      const response = await app.inject({ method: 'POST', url: '/v1/files', headers: all, payload });
      if (response.statusCode !== 200) throw new Error(response.body);
      return response.json().id;
    },
    async close() {
      await app.close();
      await services.jobs.close();
      services.inference.close();
      await rm(dataDirectory, { recursive: true, force: true });
      assert.deepEqual(undocumented, [], 'answers that are not what the schema of their route says');
    },
  };
}

/** Compares every JSON answer with the schema its route documents; collects what differs. */
function checkAnswers(app: App): string[] {
  const undocumented: string[] = [];
  app.addHook('preSerialization', async (request, reply, payload) => {
    const responses = (request.routeOptions.schema?.response ?? {}) as Record<string, Documented>;
    const { statusCode } = reply;
    const documented = responses[statusCode] ?? responses[`${String(statusCode)[0]}XX`];
    const schema = documented?.content?.['application/json']?.schema ?? documented;
    if (schema === undefined) return payload;
    // Through JSON: what has no place in it, such as undefined, is not sent.
    const [error] = Value.Errors(schema as TSchema, JSON.parse(JSON.stringify(payload)));
    const route = `${request.method} ${request.routeOptions.url} ${statusCode}`;
    if (error !== undefined) undocumented.push(`${route}: ${error.instancePath} ${error.message}`);
    return payload;
  });
  return undocumented;
}

type Documented = { content?: Record<string, { schema: object }> };

/** A multipart body with the file behind the fields, or before them as the SDK sends it. */
export function uploadForm(
  fields: Record<string, string>,
  content: string,
  name = 'file',
  fileFirst = true,
  filename = 'rows.jsonl',
) {
  const boundary = 'form-boundary-7f3c';
  const file = `--${boundary}\r\ncontent-disposition: form-data; name="${name}"; filename="${filename}"\r\ncontent-type: application/jsonl\r\n\r\n${content}\r\n`;
  const others = Object.entries(fields).map(
    ([field, value]) => `--${boundary}\r\ncontent-disposition: form-data; name="${field}"\r\n\r\n${value}\r\n`,
  );
  const parts = fileFirst ? [file, ...others] : [...others, file];
  return { payload: `${parts.join('')}--${boundary}--\r\n`, contentType: `multipart/form-data; boundary=${boundary}` };
}

export const capitals = [
  { sub_label: 'Finland', obj_label: 'Helsinki' },
  { sub_label: 'France', obj_label: 'Paris' },
  { sub_label: 'Norway', obj_label: 'Oslo' },
  { sub_label: 'Italy', obj_label: 'Rome' },
  { sub_label: 'Spain', obj_label: 'Madrid' },
  { sub_label: 'Cuba', obj_label: 'Havana' },
];

export const template = [
  { virtual: 3, init: 'The capital of' },
  { field: 'sub_label' },
  { virtual: 2, init: 'is' },
  { target: 'obj_label' },
];
