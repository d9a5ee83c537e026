/** The server over a real encoder-decoder LM: what a tuned prompt answers is what its decoder says, alone and in a batch. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { padBatch } from '../../src/data/batches.ts';
import { importModel } from '../../src/lm/import.ts';
import { openLm } from '../../src/lm/open.ts';
import type { ModelManifest } from '../../src/models/manifest.ts';
import { compileTemplate, renderRow } from '../../src/tasks/render.ts';
import type { Task, Template } from '../../src/tasks/schema.ts';
import { loadTokenizer } from '../../src/tokenizer/load.ts';
import { startTestServer, type TestServer } from '../support/inference.ts';
import { t5Folder } from '../support/t5.ts';

const template: Template = [{ virtual: 3 }, { field: 'country' }, { target: 'capital' }, { text: 'is' }];
const cloze: Task = { type: 'cloze' };
const labels: Task = { type: 'classification', labels: { north: 'Oslo', south: ['Norway', 'capital'] } };

let server: TestServer;
let t5: ModelManifest;
before(async () => {
  t5 = await importModel(t5Folder(['<extra_id_0>', '<extra_id_1>']), { id: 't5' });
  server = await startTestServer({ models: [t5] });
});
after(() => server?.close());

/** What the LM answers without the server: tokens chosen greedily, at most `count`, without what ends the answer. */
async function greedy(id: string, country: string, count: number, ends: readonly number[]): Promise<number[]> {
  const { table: values, rows, width } = await server.artifacts.loadPrompt(id);
  const tokenizer = await loadTokenizer(t5.directory);
  const row = renderRow(compileTemplate(template, { ...t5, tokenizer }), { country });
  const lm = await openLm(t5, { threads: 1, device: 'cpu' });
  const predictor = await lm.predictor();
  const decoding = await predictor.decode(padBatch([row], 0).batch, { rows, width, values });
  const tokens: number[] = [];
  while (tokens.length < count) {
    const token = decoding.logits.indexOf(Math.max(...decoding.logits));
    if (ends.includes(token)) break;
    tokens.push(token);
    if (tokens.length < count) await decoding.advance([token]);
  }
  await predictor.close();
  await lm.close();
  return tokens;
}

test('fill_mask reads the decoder behind the sentinel, in one batch as alone', async () => {
  const id = await server.tune('t5', 'capitals', template, cloze);
  const countries = ['Norway', 'the capital of Norway', 'Norway of the Oslo'];
  const inputs = countries.map((country) => ({ country }));
  const { status, body } = await server.post('/v1/fill_mask', { model: id, inputs, top_k: 1 });
  assert.equal(status, 200, JSON.stringify(body));
  for (const [i, country] of countries.entries()) {
    const [best] = await greedy(id, country, 1, []);
    assert.equal(body.data[i].predictions[0].token, best);
  }
});

test('completions generate with the decoder until it ends, or the next sentinel comes', async () => {
  const tokenizer = await loadTokenizer(t5.directory);
  const countries = ['Norway', 'the Norway'];
  const ends = [t5.specialTokens.eos!, ...t5.decoder!.ends];
  assert.equal(ends.length, 2);
  const lengths = new Set<number>();
  for (const name of ['one', 'two', 'three', 'four', 'five', 'six']) {
    const id = await server.tune('t5', name, template, cloze);
    const prompt = countries.map((country) => ({ country }));
    const request = { model: id, prompt, max_tokens: 5, temperature: 0 };
    const { status, body } = await server.post('/v1/completions', request);
    assert.equal(status, 200, JSON.stringify(body));
    let tokens = 0;
    for (const [i, country] of countries.entries()) {
      const expected = await greedy(id, country, 5, ends);
      assert.equal(body.choices[i].text.trim(), tokenizer.decode(expected).trim());
      assert.equal(body.choices[i].finish_reason, expected.length === 5 ? 'length' : 'stop');
      lengths.add(expected.length);
      tokens += expected.length;
    }
    assert.equal(body.usage.completion_tokens, tokens);
  }
  assert.ok(Math.max(...lengths) > 1 && lengths.size > 1, `answers of ${[...lengths]} tokens`);
});

test('classifications, and a base LM’s sentinel', async () => {
  const id = await server.tune('t5', 'labels', template, labels);
  const { status, body } = await server.post('/v1/classifications', { model: id, inputs: { country: 'Norway' } });
  assert.equal(status, 200, JSON.stringify(body));
  assert.deepEqual(Object.keys(body.data[0].scores), ['north', 'south']);
  const base = await server.post('/v1/fill_mask', { model: 't5', inputs: { text: 'the capital is <extra_id_0>' } });
  assert.equal(base.body.data[0].predictions.length, 5);
  const text = await server.post('/v1/completions', { model: 't5', prompt: 'the capital', max_tokens: 3 });
  assert.equal(text.status, 200, JSON.stringify(text.body));
  const none = await server.post('/v1/fill_mask', { model: 't5', inputs: { text: 'no mark' } });
  assert.match(none.body.error.message, /0 times <extra_id_0>/);
});

interface Answered {
  choices: { text: string; finish_reason: string; logprobs: { tokens: string[]; token_logprobs: number[]; text_offset: number[] } | null }[]; // biome-ignore format: short
  usage: { completion_tokens: number };
}

async function complete(body: object): Promise<Answered> {
  const { status, body: answer } = await server.post('/v1/completions', {
    model: 't5',
    prompt: 'the capital of',
    ...body,
  });
  assert.equal(status, 200, JSON.stringify(answer));
  return answer;
}

test('every option of completions, on texts of different lengths in one batch', async () => {
  const sampled = { max_tokens: 20, temperature: 2, seed: 3 };
  const [whole] = (await complete(sampled)).choices;
  assert.deepEqual((await complete(sampled)).choices, [whole]);
  assert.notEqual((await complete({ ...sampled, seed: 4 })).choices[0]!.text, whole!.text);
  const words = whole!.text.split(' ');
  assert.ok(words.length > 5);

  const [first] = (await complete({ ...sampled, prompt: ['the capital of', 'Norway is the capital of the Oslo'] }))
    .choices;
  assert.equal(first!.text, whole!.text);

  const stop = words.find((word, i) => i > 0 && words.indexOf(word) === i)!;
  const stopped = await complete({ ...sampled, stop: [stop] });
  assert.equal(stopped.choices[0]!.text, whole!.text.slice(0, whole!.text.indexOf(stop)));
  assert.equal(stopped.choices[0]!.finish_reason, 'stop');

  const narrow = await complete({ ...sampled, top_p: 1e-6 });
  assert.equal(narrow.choices[0]!.text, (await complete({ max_tokens: 20, temperature: 0 })).choices[0]!.text);

  const told = (await complete({ ...sampled, logprobs: 2 })).choices[0]!.logprobs!;
  assert.deepEqual(told.tokens, words);
  assert.ok(told.token_logprobs.every((one) => one <= 0));
  for (const [i, at] of told.text_offset.entries()) assert.ok(whole!.text.slice(at).trimStart().startsWith(words[i]!));

  const { body: events } = await server.post('/v1/completions', { model: 't5', prompt: 'the capital of', ...sampled, stream: true }); // biome-ignore format: one call
  const pieces = String(events).split('\n\n').filter((one) => one.startsWith('data: {')).map((one) => JSON.parse(one.slice(6))); // biome-ignore format: one line
  assert.equal(pieces.map((piece) => piece.choices[0].text).join(''), whole!.text);
  assert.ok(pieces.length > 10);
});
