/** Models over HTTP: registering base LMs, listing, retrieving and deleting them and tuned prompts. */
import assert from 'node:assert/strict';
import { cp, mkdtemp, readdir, realpath, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { exampleFiles, exampleManifest } from '../support/artifact.ts';
import { shippedModels, startTestService, type TestService } from './service.ts';

let service: TestService;
let root: string;

const ada = { authorization: 'Bearer key-of-ada' };
const bob = { authorization: 'Bearer key-of-bob' };

before(async () => {
  root = await realpath(await mkdtemp(join(tmpdir(), 'ptuned-lms-')));
  const apiKeys = ['ada', 'bob'].map((owner) => ({ owner, key: `key-of-${owner}` }));
  // Models need no Redis: the address is one where nothing listens.
  service = await startTestService({ redisUrl: 'redis://127.0.0.1:1', config: { apiKeys, modelRoots: [root] } });
});

after(async () => {
  await service?.close();
  await rm(root, { recursive: true });
});

async function call(method: 'GET' | 'POST' | 'DELETE', path: string, payload?: object, headers = ada) {
  const url = `/v1/models${path}`;
  const response = await service.app.inject({ method, url, headers, ...(payload === undefined ? {} : { payload }) });
  return { status: response.statusCode, body: response.json() };
}

test('a shipped LM is registered by its relative path, once, and described', async () => {
  const { status, body } = await call('POST', '', { path: 'demo/models/demo-bert' });
  assert.equal(status, 201, JSON.stringify(body));
  const { created, hash, parameters, ...rest } = body;
  assert.deepEqual(rest, {
    id: 'demo-bert',
    object: 'model',
    owned_by: 'ptuned',
    kind: 'masked',
    architecture: 'BertForMaskedLM',
    vocabulary_size: 2921,
    embedding_width: 128,
    max_length: 64,
  });
  assert.match(hash, /^[0-9a-f]{64}$/);
  assert.ok(parameters > 100_000 && Math.abs(created - Date.now() / 1000) < 60);
  const again = await call('POST', '', { path: join(shippedModels, 'demo-bert'), id: 'demo-bert' });
  assert.deepEqual([again.status, again.body.hash], [200, hash]);
  assert.equal((await call('GET', '/demo-bert', undefined, bob)).body.hash, hash, 'base LMs are everyone’s');
});

test('an id that is in use by another LM is a conflict; two registrations at once take turns', async () => {
  await cp(join(shippedModels, 'demo-gpt2'), join(root, 'tiny'), { recursive: true });
  const [conflict, tiny] = await Promise.all([
    call('POST', '', { path: 'tiny', id: 'demo-bert' }),
    call('POST', '', { path: 'tiny' }),
  ]);
  assert.deepEqual([conflict.status, conflict.body.error.code, conflict.body.error.param], [409, 'conflict', 'id']);
  assert.deepEqual([tiny.status, tiny.body.id, tiny.body.kind], [201, 'tiny', 'causal']);
});

test('fields of a registration are checked', async () => {
  const wrong: [object, string][] = [
    [{}, 'path'],
    [{ path: 'tiny', id: 'a:b' }, 'id'],
    [{ path: 'tiny', id: '../x' }, 'id'],
    [{ path: 'tiny', device: 'cuda' }, 'device'],
    [{ path: '' }, 'path'],
    [{ path: '/root' }, 'path'],
  ];
  for (const [body, param] of wrong) {
    const answer = await call('POST', '', body);
    assert.deepEqual([answer.status, answer.body.error.param], [400, param], JSON.stringify(body));
  }
});

test('tuned prompts are listed with base LMs and seen by their owner alone', async () => {
  const id = 'ft:tiny:ada:capitals:0123abcd';
  const result = {
    manual: null,
    tuned: { dev: { p_at_1: 0.75 }, test: null },
    bestStep: 100,
    steps: 100,
    secondsPerStep: 1,
    seconds: 1,
    rows: {
      train: { used: 1, shortened: 0, dropped: 0 },
      dev: { used: 1, shortened: 0, dropped: 0 },
      test: { used: 0, shortened: 0, dropped: 0 },
    },
    promptSha256: '0'.repeat(64),
  };
  const files = exampleFiles(2, 8, 1);
  await service.artifacts.put(exampleManifest({ id, owner: 'ada', result }), files);
  await service.artifacts.put(exampleManifest({ id: `${id}:ckpt-step-50`, owner: 'ada', step: 50 }), files);
  const list = async (headers: typeof ada) => {
    const { body } = await call('GET', '', undefined, headers);
    assert.deepEqual([body.object, body.has_more], ['list', false]);
    return body.data.map((model: { id: string }) => model.id);
  };
  assert.deepEqual(await list(ada), ['demo-bert', 'tiny', id], 'checkpoints are listed with their job');
  assert.deepEqual(await list(bob), ['demo-bert', 'tiny']);
  const encoded = `/${encodeURIComponent(id)}`;
  assert.deepEqual((await call('GET', encoded)).body, {
    id,
    object: 'model',
    created: 1_700_000_000,
    owned_by: 'ada',
    kind: 'causal',
    base_model: 'fake-causal',
    fine_tuning_job_id: 'ftjob-1',
    step: 100,
    method: 'p_tuning',
    task: 'cloze',
    fields: ['country'],
    metrics: { p_at_1: 0.75 },
  });
  assert.equal((await call('GET', `${encoded}${encodeURIComponent(':ckpt-step-50')}`)).body.step, 50);
  for (const method of ['GET', 'DELETE'] as const) {
    const { status, body } = await call(method, encoded, undefined, bob);
    assert.deepEqual([status, body.error.code], [404, 'model_not_found']);
  }
  assert.deepEqual((await call('DELETE', encoded)).body, { id, object: 'model', deleted: true });
  assert.equal((await call('GET', encoded)).status, 404);
});

test('a base LM is unregistered, its folder stays', async () => {
  assert.deepEqual((await call('DELETE', '/tiny')).body, { id: 'tiny', object: 'model', deleted: true });
  assert.equal((await call('GET', '/tiny')).status, 404);
  assert.ok((await readdir(join(root, 'tiny'))).includes('model.onnx'));
});
