/** Who may use which tuned prompt, on which LM, and what happens when either changes. */
import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { encodeId } from '../../src/artifacts/names.ts';
import { encodePrompt } from '../../src/artifacts/prompt.ts';
import type { Task, Template } from '../../src/tasks/schema.ts';
import { type Answer, startTestServer, type TestServer } from '../support/inference.ts';

const template: Template = [{ virtual: 2 }, { field: 'country' }, { target: 'capital' }];
const task: Task = { type: 'cloze', allowed_words: ['Paris', 'Oslo', 'Rome'] };
const inputs = { country: 'France' };

let server: TestServer;
before(async () => {
  server = await startTestServer();
});
after(() => server.close());

const ask = (model: string, owner?: string) => server.post('/v1/fill_mask', { model, inputs }, owner);
const outcome = ({ status, body }: Answer) => [status, body.error?.code ?? 'ok'];

test('a tuned prompt of another owner answers as if it were not there', async () => {
  const id = await server.tune('causal', 'mine', template, task, { owner: 'ann' });
  assert.deepEqual(outcome(await ask(id, 'ann')), [200, 'ok']);
  const foreign = await ask(id, 'bob');
  assert.deepEqual(outcome(foreign), [404, 'model_not_found']);
  const absent = await ask('ft:causal:ann:absent:0', 'bob');
  assert.equal(
    foreign.body.error.message.replace(id, '…'),
    absent.body.error.message.replace('ft:causal:ann:absent:0', '…'),
  );
});

test('ids that are no ids are not found', async () => {
  for (const id of ['ft:../../etc/passwd', 'ft:', '../x', 'ft:a/b', 'ft:a\u0000b', '__proto__', 'ft:é']) {
    assert.deepEqual(outcome(await ask(id)), [404, 'model_not_found'], id);
  }
});

test('a removed prompt is gone at once, a new one under its id is another one', async () => {
  const id = await server.tune('causal', 'first', template, task);
  const before = await ask(id);
  assert.equal(before.status, 200);
  await server.artifacts.remove(id);
  assert.deepEqual(outcome(await ask(id)), [404, 'model_not_found']);
  await server.tune('causal', 'second', template, task, { id });
  const replaced = await ask(id);
  assert.equal(replaced.status, 200);
  assert.notDeepEqual(replaced.body.data, before.body.data);
});

test('another LM under the base id refuses the prompt, loaded before or not; the right one serves it again', async () => {
  const seen = await server.tune('causal', 'seen', template, task);
  const unseen = await server.tune('causal', 'unseen', template, task);
  assert.equal((await ask(seen)).status, 200);
  const base = server.models.get('causal')!;
  for (const other of [
    { ...base, hash: 'f'.repeat(64) },
    { ...base, tokenizer: { ...base.tokenizer, sha256: 'e'.repeat(64) } },
  ]) {
    server.models.set('causal', other);
    for (const id of [seen, unseen]) {
      const answer = await ask(id);
      assert.deepEqual(outcome(answer), [409, 'model_mismatch']);
      assert.equal(answer.headers.get('x-should-retry'), 'false');
    }
  }
  server.models.delete('causal');
  const missing = await ask(seen);
  assert.deepEqual(outcome(missing), [404, 'model_not_found']);
  assert.match(missing.body.error.message, /"causal", which is not registered/);
  server.models.set('causal', base);
  for (const id of [seen, unseen]) assert.equal((await ask(id)).status, 200);
});

test('a tokenizer changed on disk since the import is noticed', async () => {
  const base = server.models.get('causal')!;
  server.models.set('other', { ...base, id: 'other', tokenizer: { ...base.tokenizer, sha256: 'd'.repeat(64) } });
  const answer = await server.post('/v1/completions', { model: 'other', prompt: 'x' });
  assert.deepEqual(outcome(answer), [409, 'model_mismatch']);
  assert.match(answer.body.error.message, /tokenizer\.json/);
});

test('damaged bytes are never served', async () => {
  const id = await server.tune('causal', 'damaged', template, task);
  const path = join(server.directory, encodeId(id)!, 'prompt.safetensors');
  const bytes = await readFile(path);
  bytes[bytes.length - 1]! ^= 1;
  await writeFile(path, bytes);
  assert.deepEqual(outcome(await ask(id)), [500, 'damaged_artifact']);
});

test('a table that does not fit template or LM is refused', async () => {
  const id = await server.tune('causal', 'rows', [{ virtual: 3 }, ...template.slice(1)], task);
  const manifest = await server.artifacts.get(id);
  const wrong = { ...manifest, id: 'ft:causal:local:wrong:0', virtualTokens: 2 };
  await server.artifacts.put(wrong, {
    'prompt.safetensors': encodePrompt(new Float32Array(2 * manifest.width), 2, manifest.width),
  });
  assert.deepEqual(outcome(await ask(wrong.id)), [500, 'damaged_artifact']);
});

test('allowed words of an uploaded file are served from the artifact', async () => {
  const id = await server.tune('causal', 'words', template, task);
  const manifest = await server.artifacts.get(id);
  const method = {
    ...manifest.method,
    task: { type: 'cloze', metric: 'p_at_1', allowed_words_file: 'file-1' } as const,
  };
  const files = { 'prompt.safetensors': await server.artifacts.readFile(id, 'prompt.safetensors') };
  const words = Buffer.from('Oslo\nRome\n\nnot one token\n');
  const own = { ...manifest, method, id: 'ft:causal:local:file:0' };
  await server.artifacts.put(own, { ...files, 'allowed-words.txt': words });
  const { body } = await ask(own.id);
  const found = body.data[0].predictions.map((one: { token_str: string }) => one.token_str);
  assert.deepEqual(found.sort(), ['Oslo', 'Rome']);
  const without = { ...own, id: 'ft:causal:local:nofile:0' };
  await server.artifacts.put(without, files);
  assert.deepEqual(outcome(await ask(without.id)), [500, 'damaged_artifact']);
});
