/** The server over the real demo LMs, each in its thread. */
import assert from 'node:assert/strict';
import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { encodePrompt } from '../../src/artifacts/prompt.ts';
import { importModel } from '../../src/lm/import.ts';
import { openLm } from '../../src/lm/open.ts';
import type { ModelManifest } from '../../src/models/manifest.ts';
import type { Task, Template } from '../../src/tasks/schema.ts';
import { loadTokenizer } from '../../src/tokenizer/load.ts';
import { demoModels, startTestServer, type TestServer } from '../support/inference.ts';

const countries = ['France', 'Norway', 'Saint Helena', 'Italy', 'Bosnia and Herzegovina', 'Japan', 'Peru', 'Fiji'];
const any: Task = { type: 'cloze' };
const causal: Template = [{ virtual: 3 }, { field: 'country' }, { virtual: 1 }, { target: 'capital' }];
const masked: Template = [...causal, { text: '.' }];

let server: TestServer;
let gpt2: ModelManifest;
let bert: ModelManifest;
/** Tuned prompts whose tables are the word embeddings of the manual prompt "The capital of … is". */
let wordsOnGpt2: string;
let wordsOnBert: string;

before(async () => {
  gpt2 = await importModel(join(demoModels, 'demo-gpt2'));
  bert = await importModel(join(demoModels, 'demo-bert'));
  server = await startTestServer({ models: [gpt2, bert] });
  wordsOnGpt2 = await tuneToWords(gpt2, causal);
  wordsOnBert = await tuneToWords(bert, masked);
});
after(() => server?.close());

async function tuneToWords(base: ModelManifest, template: Template): Promise<string> {
  const tokenizer = await loadTokenizer(base.directory);
  const ids = [
    ...tokenizer.encode('The capital of', { afterSpace: false }),
    ...tokenizer.encode('is', { afterSpace: true }),
  ];
  assert.equal(ids.length, 4);
  const lm = await openLm(base, { threads: 1, device: 'cpu' });
  const table = await lm.embeddings(ids);
  await lm.close();
  // Same manifest as any tuned prompt, with these embeddings as its table.
  const id = await server.tune(base.id, 'words', template, any, { id: `ft:${base.id}:local:numbers:0` });
  const { files: _files, ...manifest } = await server.artifacts.get(id);
  const own = { ...manifest, id: `ft:${base.id}:local:words:0` };
  await server.artifacts.put(own, { 'prompt.safetensors': encodePrompt(table, 4, base.embedding.width) });
  return own.id;
}

interface Prediction {
  token: number;
  score: number;
}

function assertNear(found: Prediction[], expected: Prediction[], tolerance: number): void {
  assert.deepEqual(
    found.map(({ token }) => token),
    expected.map(({ token }) => token),
  );
  found.forEach(({ score }, i) => {
    const relative = Math.abs(score - expected[i]!.score) / expected[i]!.score;
    assert.ok(relative < tolerance, `${score} is not ${expected[i]!.score}`);
  });
}

test('pseudo tokens that hold word embeddings do what the words do: masked', async () => {
  for (const country of countries) {
    const text = `The capital of ${country} is [MASK].`;
    const plain = await server.post('/v1/fill_mask', { model: bert.id, inputs: { text }, top_k: 10 });
    const tuned = await server.post('/v1/fill_mask', { model: wordsOnBert, inputs: { country }, top_k: 10 });
    assert.equal(plain.status, 200, JSON.stringify(plain.body));
    assert.equal(tuned.body.usage.prompt_tokens, plain.body.usage.prompt_tokens);
    assertNear(tuned.body.data[0].predictions, plain.body.data[0].predictions, 1e-4);
  }
});

test('pseudo tokens that hold word embeddings do what the words do: causal, through a generation', async () => {
  for (const country of countries) {
    const options = { max_tokens: 6, temperature: 0, logprobs: 5 };
    const prompt = `The capital of ${country} is`;
    const { body: plain } = await server.post('/v1/completions', { model: gpt2.id, prompt, ...options });
    const { body: tuned } = await server.post('/v1/completions', {
      model: wordsOnGpt2,
      prompt: { country },
      ...options,
    });
    const [expected, found] = [plain.choices[0], tuned.choices[0]];
    assert.deepEqual([found.text, found.finish_reason], [expected.text, expected.finish_reason]);
    assert.deepEqual(tuned.usage, plain.usage);
    found.logprobs.token_logprobs.forEach((logprob: number, i: number) => {
      assert.ok(Math.abs(logprob - expected.logprobs.token_logprobs[i]) < 1e-4);
    });
  }
});

test('results do not depend on the batch: 64 different prompts of one LM, several lengths, mixed with base queries', async () => {
  const ids: string[] = [];
  for (let i = 0; i < 64; i++) {
    const template: Template = i % 2 === 0 ? masked : [{ virtual: 1 + (i % 5) }, { field: 'country' }, { target: 'c' }];
    ids.push(await server.tune(bert.id, `mixed-${i}`, template, any));
  }
  const requests: object[] = ids.map((model, i) => ({ model, inputs: { country: countries[i % 8] }, top_k: 5 }));
  for (const country of countries)
    requests.push({ model: bert.id, inputs: { text: `${country} has the [MASK].` }, top_k: 5 });
  const ask = async (body: object): Promise<Prediction[]> =>
    (await server.post('/v1/fill_mask', body)).body.data[0].predictions;
  const alone: Prediction[][] = [];
  for (const body of requests) alone.push(await ask(body));
  const together = await Promise.all(requests.map(ask));
  together.forEach((found, i) => void assertNear(found, alone[i]!, 1e-4));
});

test('generations of different prompts and lengths together are those of each alone', async () => {
  const texts = ['The capital of', 'Oslo', 'The currency of Norway is', 'In', 'People in Japan speak'];
  const requests = texts.flatMap((prompt, i) => [
    { model: gpt2.id, prompt, max_tokens: 4 + 3 * i, temperature: 0 },
    { model: gpt2.id, prompt, max_tokens: 12, temperature: 0.7, seed: i },
    { model: wordsOnGpt2, prompt: { country: countries[i] }, max_tokens: 2 + i, temperature: 0 },
  ]);
  const ask = async (body: object) => (await server.post('/v1/completions', body)).body.choices;
  const alone: unknown[] = [];
  for (const body of requests) alone.push(await ask(body));
  assert.deepEqual(await Promise.all(requests.map(ask)), alone);
});

test('weights changed since the import are noticed', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'ptuned-changed-'));
  try {
    await cp(gpt2.directory, directory, { recursive: true });
    const path = join(directory, gpt2.graph);
    const bytes = await readFile(path);
    bytes[bytes.length >> 1]! ^= 1;
    await writeFile(path, bytes);
    server.models.set('changed', { ...gpt2, id: 'changed', directory });
    const { status, body } = await server.post('/v1/completions', { model: 'changed', prompt: 'Oslo' });
    assert.deepEqual([status, body.error.code], [409, 'model_mismatch']);
    await rm(path);
    const missing = await server.post('/v1/completions', { model: 'changed', prompt: 'Oslo' });
    assert.equal(missing.body.error.code, 'missing_file');
  } finally {
    await rm(directory, { recursive: true });
  }
});
