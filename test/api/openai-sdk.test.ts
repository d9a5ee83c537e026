/** The official SDK as a client over real HTTP, Redis and inference, with only baseURL and apiKey changed. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { after, before, test } from 'node:test';
import type { FastifyInstance } from 'fastify';
import OpenAI, { AuthenticationError, BadRequestError, ConflictError, NotFoundError, toFile } from 'openai';
import { buildInferenceServer } from '../../src/inference/server.ts';
import { exampleFiles, exampleManifest } from '../support/artifact.ts';
import { startTestRedis, type TestRedis } from '../support/redis.ts';
import { capitals, startTestService, type TestService, template } from './service.ts';

let redis: TestRedis;
let service: TestService;
let inference: FastifyInstance;
let openai: OpenAI;
/** Requests the service got, by method and path. */
const requests: string[] = [];

before(async () => {
  redis = await startTestRedis();
  const apiKeys = [{ owner: 'ada', key: 'key-of-ada' }];
  // The inference server reads the service's own registry and store, so it starts second; its address is needed first.
  const port = await freePort();
  service = await startTestService({
    redisUrl: redis.url,
    config: { apiKeys, threads: 1 },
    inferenceUrl: `http://127.0.0.1:${port}`,
  });
  const { config, logger, models, artifacts, app } = service;
  inference = await buildInferenceServer({ config, logger, models, artifacts });
  await inference.listen({ port, host: '127.0.0.1' });
  await service.registerDemo('demo-gpt2');
  app.addHook('onRequest', async (request) => void requests.push(`${request.method} ${request.url}`));
  await app.listen({ port: 0, host: '127.0.0.1' });
  const { port: apiPort } = app.server.address() as AddressInfo;
  openai = new OpenAI({ baseURL: `http://127.0.0.1:${apiPort}/v1`, apiKey: 'key-of-ada' });
});

after(async () => {
  await service?.close();
  await inference?.close();
  await redis?.close();
});

const jsonl = capitals.map((row) => JSON.stringify(row)).join('\n');
// The SDK's types know no p_tuning; its code sends what it is given.
const method = { type: 'p_tuning', p_tuning: { template } } as unknown as OpenAI.FineTuning.JobCreateParams.Method;

async function upload(): Promise<string> {
  const file = await openai.files.create({
    file: await toFile(Buffer.from(jsonl), 'capitals.jsonl'),
    purpose: 'fine-tune',
  });
  return file.id;
}

test('files: create, retrieve, list, content, delete, waitForProcessing', async () => {
  const id = await upload();
  const file = await openai.files.retrieve(id);
  assert.deepEqual([file.filename, file.bytes, file.status], ['capitals.jsonl', jsonl.length, 'processed']);
  assert.equal((await openai.files.waitForProcessing(id)).id, id);
  assert.equal(await (await openai.files.content(id)).text(), jsonl);
  const second = await upload();
  const listed: string[] = [];
  for await (const one of openai.files.list({ limit: 1 })) listed.push(one.id);
  assert.deepEqual(listed.sort(), [id, second].sort(), 'pages follow each other');
  assert.deepEqual(await openai.files.delete(second), { id: second, object: 'file', deleted: true });
  await assert.rejects(openai.files.retrieve(second), NotFoundError);
});

test('jobs: create, retrieve, list, events, checkpoints, pause, resume, cancel', async () => {
  const { jobs } = openai.fineTuning;
  const training_file = await upload();
  const model = 'demo-gpt2';
  const created = await jobs.create({ model, training_file, suffix: 'sdk', seed: 3, metadata: { a: 'b' }, method });
  assert.deepEqual([created.object, created.status, created.seed], ['fine_tuning.job', 'queued', 3]);
  assert.equal((await jobs.retrieve(created.id)).id, created.id);
  const more = await jobs.create({ model, training_file, method, validation_file: null, integrations: null });
  const ids: string[] = [];
  for await (const job of jobs.list({ limit: 1 })) ids.push(job.id);
  assert.deepEqual(ids, [more.id, created.id]);
  assert.deepEqual(
    (await jobs.list({ metadata: { a: 'b' } })).data.map((job) => job.id),
    [created.id],
  );

  assert.equal((await jobs.pause(created.id)).status, 'paused');
  assert.equal((await jobs.resume(created.id)).status, 'queued');
  const events: string[] = [];
  for await (const event of jobs.listEvents(created.id, { limit: 1 })) events.push(event.message);
  assert.ok(events.length >= 3 && new Set(events).size === events.length);
  assert.deepEqual((await jobs.checkpoints.list(created.id)).data, []);
  assert.equal((await jobs.cancel(created.id)).status, 'cancelled');
});

test('errors arrive as the SDK’s classes, with code, param and request id; a conflict is not retried', async () => {
  const training_file = await upload();
  const { jobs } = openai.fineTuning;
  const refused = await jobs.create({ model: 'demo-gpt2', training_file, method: { type: 'dpo' } }).then(
    () => assert.fail('it was taken'),
    (error) => error,
  );
  assert.ok(refused instanceof BadRequestError);
  assert.deepEqual(
    [refused.param, refused.code, refused.type],
    ['method.type', 'invalid_request', 'invalid_request_error'],
  );
  assert.match(refused.requestID ?? '', /^req_/);
  await assert.rejects(jobs.retrieve('ftjob-000000000000000000000000'), NotFoundError);
  await assert.rejects(openai.withOptions({ apiKey: 'wrong-key' }).models.list(), AuthenticationError);

  const { id } = await jobs.create({ model: 'demo-gpt2', training_file, method });
  await jobs.cancel(id);
  requests.length = 0;
  await assert.rejects(jobs.pause(id), ConflictError);
  assert.equal(requests.length, 1);
});

test('a create whose answer was lost is retried by the SDK and is still one job', async () => {
  const training_file = await upload();
  let losses = 0;
  const client = openai.withOptions({
    fetch: async (url, init) => {
      const response = await fetch(url, init);
      if (losses++ > 0) return response;
      throw new TypeError('the connection broke after the request had arrived');
    },
  });
  const lost = { model: 'demo-gpt2', training_file, method, suffix: 'lost' };
  const { id } = await client.fineTuning.jobs.create(lost);
  assert.ok(losses >= 2, 'the SDK has tried again');
  const { data } = await openai.fineTuning.jobs.list({ limit: 100 });
  const made = data.filter((job) => job.training_file === training_file);
  assert.deepEqual(
    made.map((job) => job.id),
    [id],
  );
});

test('models: list, retrieve and delete, ids with colons included', async () => {
  const id = 'ft:demo-gpt2:ada:sdk:0123abcd';
  const result = { bestStep: 1 } as never;
  await service.artifacts.put(exampleManifest({ id, owner: 'ada', result }), exampleFiles(2, 8, 1));
  const ids: string[] = [];
  for await (const model of openai.models.list()) ids.push(model.id);
  assert.deepEqual(ids, ['demo-gpt2', id]);
  assert.equal((await openai.models.retrieve(id)).owned_by, 'ada');
  assert.deepEqual(await openai.models.delete(id), { id, object: 'model', deleted: true });
  await assert.rejects(openai.models.retrieve(id), NotFoundError);
});

test('completions: whole and streamed, the same text', async () => {
  const request = { model: 'demo-gpt2', prompt: 'The capital of Norway is', max_tokens: 3, temperature: 0 };
  const whole = await openai.completions.create(request);
  assert.equal(whole.object, 'text_completion');
  assert.ok(whole.choices[0]!.text.length > 0);
  const { completion_tokens: tokens = 0 } = whole.usage!;
  assert.ok(tokens >= 1 && tokens <= 3);
  let text = '';
  for await (const chunk of await openai.completions.create({ ...request, stream: true })) {
    text += chunk.choices[0]?.text ?? '';
  }
  assert.equal(text, whole.choices[0]!.text);
  const absent = openai.completions.create({ ...request, model: 'absent' });
  await assert.rejects(absent, NotFoundError);
});

async function freePort(): Promise<number> {
  const { createServer } = await import('node:net');
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}
