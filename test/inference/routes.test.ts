/** Each query route over fake LMs: what it answers, and what it refuses. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import OpenAI from 'openai';
import type { Task, Template } from '../../src/tasks/schema.ts';
import { type Answer, startTestServer, type TestServer } from '../support/inference.ts';

const causal: Template = [{ virtual: 3 }, { field: 'country' }, { virtual: 2 }, { target: 'capital' }];
const masked: Template = [{ virtual: 3 }, { field: 'country' }, { virtual: 2 }, { target: 'capital' }, { text: '.' }];
const two: Template = [{ virtual: 1 }, { field: 'first' }, { field: 'second', shortenable: true }, { target: 'label' }];
const allowed = ['Paris', 'Oslo', 'Helsinki', 'Rome'];
const capitals: Task = { type: 'cloze', allowed_words: allowed };
const any: Task = { type: 'cloze' };
const label: Task = { type: 'classification', labels: { north: ['Oslo', 'Helsinki'], south: 'Rome', west: 'Paris' } };

let server: TestServer;
const ids: Record<string, string> = {};

before(async () => {
  server = await startTestServer();
  ids.causalCapitals = await server.tune('causal', 'capitals', causal, capitals);
  ids.causalAny = await server.tune('causal', 'any', causal, any);
  ids.causalLabel = await server.tune('causal', 'label', causal, label);
  ids.causalTwo = await server.tune('causal', 'two', two, any);
  ids.maskedCapitals = await server.tune('masked', 'capitals', masked, capitals);
  ids.maskedLabel = await server.tune('masked', 'label', masked, label);
});
after(() => server.close());

const sum = (numbers: number[]) => numbers.reduce((total, number) => total + number, 0);
const near = (a: number, b: number, tolerance = 1e-5) => assert.ok(Math.abs(a - b) <= tolerance, `${a} is not ${b}`);

function refused(answer: Answer, status: number, code: string, message: RegExp, param?: string): void {
  assert.deepEqual([answer.status, answer.body?.error?.code], [status, code], JSON.stringify(answer.body));
  assert.match(answer.body.error.message, message);
  if (param !== undefined) assert.equal(answer.body.error.param, param);
}

for (const kind of ['causal', 'masked'] as const) {
  test(`fill_mask ranks a ${kind} prompt's allowed words, and only those`, async () => {
    const model = ids[`${kind}Capitals`];
    const inputs = [{ country: 'France' }, { country: 'Norway' }];
    const { status, body } = await server.post('/v1/fill_mask', { model, inputs, top_k: 4 });
    assert.equal(status, 200);
    assert.deepEqual([body.object, body.model], ['list', model]);
    assert.deepEqual(
      body.data.map(({ index }: { index: number }) => index),
      [0, 1],
    );
    for (const { predictions } of body.data) {
      const words = predictions.map((one: { token_str: string }) => one.token_str);
      assert.deepEqual([...words].sort(), [...allowed].sort());
      const scores = predictions.map((one: { score: number }) => one.score);
      near(sum(scores), 1);
      assert.deepEqual(
        scores,
        [...scores].sort((a, b) => b - a),
      );
    }
    assert.notDeepEqual(body.data[0].predictions, body.data[1].predictions);
    assert.ok(body.usage.prompt_tokens > 0 && body.usage.total_tokens === body.usage.prompt_tokens);
  });
}

test('fill_mask gives five words by default, of the whole vocabulary where the task allows all', async () => {
  const { body } = await server.post('/v1/fill_mask', { model: ids.causalAny, inputs: { country: 'France' } });
  const [{ predictions }] = body.data;
  assert.equal(predictions.length, 5);
  assert.ok(sum(predictions.map((one: { score: number }) => one.score)) < 1);
  assert.ok(predictions.every((one: { token_str: string }) => one.token_str.length > 0));
});

test('fill_mask reads the mask of a base masked LM, wherever it stands', async () => {
  const texts = ['The capital of France is [MASK].', '[MASK] is the capital of Norway.', '[MASK]'];
  const inputs = texts.map((text) => ({ text }));
  const { status, body } = await server.post('/v1/fill_mask', { model: 'masked', inputs, top_k: 2 });
  assert.equal(status, 200, JSON.stringify(body));
  assert.equal(body.data.length, 3);
  const words = body.data.map((one: { predictions: { token: number }[] }) => one.predictions[0]!.token);
  assert.equal(new Set(words).size, 3);
});

test('classifications scores every label; a label of several words has the mean of their logits', async () => {
  const inputs = [{ country: 'Norway' }];
  for (const kind of ['causal', 'masked'] as const) {
    const { body } = await server.post('/v1/classifications', { model: ids[`${kind}Label`], inputs });
    const [{ label: best, scores }] = body.data;
    assert.deepEqual(Object.keys(scores), ['north', 'south', 'west']);
    near(sum(Object.values(scores)), 1);
    assert.equal(scores[best], Math.max(...(Object.values(scores) as number[])));
    // The same table as a cloze prompt tells the words' logits, up to a constant.
    const template = kind === 'causal' ? causal : masked;
    const model = await server.tune(kind, 'label', template, capitals, { id: `ft:${kind}:local:words:0` });
    const { body: words } = await server.post('/v1/fill_mask', { model, inputs });
    const logits = Object.fromEntries(
      words.data[0].predictions.map((one: { token_str: string; score: number }) => [
        one.token_str,
        Math.log(one.score),
      ]),
    );
    near(Math.log(scores.north / scores.west), (logits.Oslo + logits.Helsinki) / 2 - logits.Paris, 1e-4);
    near(Math.log(scores.south / scores.west), logits.Rome - logits.Paris, 1e-4);
  }
});

test('classification through completions: the label is the text, the scores are in top_logprobs', async () => {
  const inputs = { country: 'Norway' };
  const { body: direct } = await server.post('/v1/classifications', { model: ids.causalLabel, inputs });
  const [expected] = direct.data;
  const { body } = await server.post('/v1/completions', { model: ids.causalLabel, prompt: inputs, logprobs: 3 });
  const [choice] = body.choices;
  assert.equal(choice.text, expected.label);
  assert.equal(choice.finish_reason, 'stop');
  const [top] = choice.logprobs.top_logprobs;
  assert.deepEqual(Object.keys(top).sort(), Object.keys(expected.scores).sort());
  for (const [name, score] of Object.entries(expected.scores)) near(Math.exp(top[name]), score as number);
  const plain = await server.post('/v1/completions', { model: ids.maskedLabel, prompt: 'Norway' });
  assert.equal(plain.body.choices[0].logprobs, null);
});

test('completions of a base LM: greedy is repeatable, max_tokens counts, choices follow the prompts', async () => {
  const ask = (more: object) =>
    server.post('/v1/completions', {
      model: 'causal',
      prompt: 'The capital of',
      temperature: 0,
      max_tokens: 6,
      ...more,
    });
  const { body } = await ask({});
  assert.match(body.id, /^cmpl-/);
  assert.deepEqual([body.object, body.model], ['text_completion', 'causal']);
  assert.deepEqual((await ask({})).body.choices, body.choices);
  const both = (await ask({ prompt: ['Oslo', 'The capital of'] })).body;
  assert.deepEqual(
    both.choices.map(({ index }: { index: number }) => index),
    [0, 1],
  );
  assert.deepEqual(both.choices[1].text, body.choices[0].text);
  const short = (await ask({ max_tokens: 2 })).body;
  assert.deepEqual([short.choices[0].finish_reason, short.usage.completion_tokens], ['length', 2]);
  assert.ok(body.choices[0].text.startsWith(short.choices[0].text));
  const { usage } = body;
  assert.equal(usage.total_tokens, usage.prompt_tokens + usage.completion_tokens);
});

test('completions default to 16 tokens, fewer where the LM ends before', async () => {
  const { body } = await server.post('/v1/completions', { model: 'causal', prompt: 'Oslo', temperature: 0 });
  assert.ok(body.usage.completion_tokens === 16 || body.choices[0].finish_reason === 'stop');
  const prompt = 'a '.repeat(30);
  const near64 = await server.post('/v1/completions', { model: 'causal', prompt, temperature: 0 });
  assert.equal(near64.status, 200);
  assert.ok(near64.body.usage.total_tokens <= 65, JSON.stringify(near64.body.usage));
});

test('a seed repeats what is sampled, another seed differs, and top_p near 0 is greedy', async () => {
  const ask = async (more: object) => {
    const body = { model: 'causal', prompt: 'Oslo is', max_tokens: 12, ...more };
    return (await server.post('/v1/completions', body)).body.choices[0].text;
  };
  assert.equal(await ask({ seed: 5 }), await ask({ seed: 5 }));
  assert.notEqual(await ask({ seed: 5 }), await ask({ seed: 6 }));
  assert.equal(await ask({ seed: 5, top_p: 1e-6 }), await ask({ temperature: 0 }));
});

test('stop strings end the text, also across tokens, and are not part of it', async () => {
  const ask = async (more: object) => {
    const body = { model: 'causal', prompt: 'Oslo', temperature: 0, max_tokens: 20, ...more };
    return (await server.post('/v1/completions', body)).body.choices[0];
  };
  const { text } = await ask({});
  assert.ok(text.length > 12, text);
  // A string in the middle of the text, whatever the tokens are.
  const stop = text.slice(7, 11);
  const cut = await ask({ stop: ['never', stop] });
  assert.deepEqual([cut.text, cut.finish_reason], [text.slice(0, text.indexOf(stop)), 'stop']);
  assert.equal((await ask({ stop })).text, cut.text);
});

test('logprobs tell the chosen tokens, their log-probabilities, offsets and the likeliest tokens', async () => {
  const { body } = await server.post('/v1/completions', {
    model: 'causal',
    prompt: 'Oslo',
    max_tokens: 5,
    temperature: 0,
    logprobs: 3,
  });
  const [{ text, logprobs }] = body.choices;
  assert.equal(logprobs.tokens.length, body.usage.completion_tokens);
  assert.equal(logprobs.tokens.join(''), text);
  logprobs.text_offset.forEach((offset: number, i: number) => {
    assert.ok(text.slice(offset).startsWith(logprobs.tokens[i]));
    assert.ok(Object.keys(logprobs.top_logprobs[i]).length <= 3);
    near(Math.max(...(Object.values(logprobs.top_logprobs[i]) as number[])), logprobs.token_logprobs[i]);
  });
});

test('a tuned cloze prompt completes one word of those its task allows, greedily', async () => {
  const fields = { country: 'France' };
  const { body: ranked } = await server.post('/v1/fill_mask', { model: ids.causalCapitals, inputs: fields, top_k: 1 });
  const best = ranked.data[0].predictions[0];
  for (const prompt of [fields, 'France', [fields], ['France']]) {
    const { body } = await server.post('/v1/completions', { model: ids.causalCapitals, prompt, logprobs: 2 });
    const [choice] = body.choices;
    assert.equal(choice.text.trim(), best.token_str);
    assert.deepEqual([choice.finish_reason, body.usage.completion_tokens], ['length', 1]);
    near(Math.exp(choice.logprobs.token_logprobs[0]), best.score);
  }
  const longer = await server.post('/v1/completions', { model: ids.causalCapitals, prompt: fields, max_tokens: 5 });
  assert.equal(longer.body.choices[0].text.trim().startsWith(best.token_str), true);
});

test('tuned prompts differ from each other and from no prompt', async () => {
  const ask = async (model: string, prompt: unknown) => {
    const { body } = await server.post('/v1/completions', { model, prompt, max_tokens: 8, temperature: 0 });
    return body.choices[0].text;
  };
  const texts = [await ask('causal', 'France'), await ask(ids.causalAny!, 'France')];
  texts.push(await ask(ids.causalTwo!, { first: 'France', second: '' }));
  assert.equal(new Set(texts).size, 3);
});

test('streamed pieces make up the whole text; the last has the reason; [DONE] ends it', async () => {
  const request = { model: 'causal', prompt: ['Oslo', 'Rome is'], max_tokens: 9, temperature: 0, logprobs: 1 };
  const { body: whole } = await server.post('/v1/completions', request);
  const { status, headers, body } = await server.post('/v1/completions', { ...request, stream: true });
  assert.equal(status, 200);
  assert.match(headers.get('content-type')!, /^text\/event-stream/);
  const events = (body as string).trim().split('\n\n');
  assert.equal(events.pop(), 'data: [DONE]');
  const chunks = events.map((event) => JSON.parse(event.slice('data: '.length)));
  assert.equal(new Set(chunks.map(({ id }) => id)).size, 1);
  for (const expected of whole.choices) {
    const own = chunks.map(({ choices }) => choices[0]).filter(({ index }) => index === expected.index);
    assert.equal(own.map(({ text }) => text).join(''), expected.text);
    assert.deepEqual(
      own.flatMap(({ logprobs }) => logprobs.tokens),
      expected.logprobs.tokens,
    );
    assert.equal(own.at(-1).finish_reason, expected.finish_reason);
    assert.ok(own.slice(0, -1).every(({ finish_reason: reason }) => reason === null));
    assert.ok(own.length > 3);
  }
});

test('the official SDK reads completions, whole and streamed', async () => {
  const client = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: 'unused', maxRetries: 0 });
  const request = { model: 'causal', prompt: 'Oslo', max_tokens: 7, temperature: 0 } as const;
  const whole = await client.completions.create(request);
  let text = '';
  for await (const chunk of await client.completions.create({ ...request, stream: true }))
    text += chunk.choices[0]!.text;
  assert.equal(text, whole.choices[0]!.text);
  await assert.rejects(
    client.completions.create({ ...request, model: 'nothing', stream: true }),
    (error) => error instanceof OpenAI.NotFoundError && error.code === 'model_not_found',
  );
});

test('inputs that do not fit the template are refused with the field', async () => {
  const fill = (inputs: unknown, model = ids.causalCapitals) => server.post('/v1/fill_mask', { model, inputs });
  refused(await fill({}), 400, 'invalid_request', /inputs\.country is missing.*"country"/, 'inputs.country');
  const second = await fill([{ country: 'France' }, { county: 'Norway' }]);
  refused(second, 400, 'invalid_request', /inputs\[1\]\.county is not a known field.*"country"/, 'inputs[1].county');
  const target = await fill({ country: 'France', capital: 'Paris' });
  refused(target, 400, 'invalid_request', /inputs\.capital is what the model predicts/, 'inputs.capital');
  const long = await fill({ country: 'very '.repeat(80) });
  refused(long, 400, 'template_too_long', /inputs: .*\d+ tokens long.*at most 64/, 'inputs');
  refused(await fill({ text: 'no mask' }, 'masked'), 400, 'invalid_request', /0 times \[MASK\]/, 'inputs.text');
  refused(await fill({ text: '[MASK] [MASK]' }, 'masked'), 400, 'invalid_request', /2 times \[MASK\]/, 'inputs.text');
  refused(
    await fill({ text: `${'a '.repeat(100)}[MASK]` }, 'masked'),
    400,
    'template_too_long',
    /at most 64/,
    'inputs',
  );
});

test('a shortenable field is cut instead', async () => {
  const prompt = { first: 'France', second: 'very '.repeat(100) };
  const { status, body } = await server.post('/v1/completions', { model: ids.causalTwo, prompt });
  assert.equal(status, 200);
  assert.equal(body.usage.prompt_tokens, 64);
});

test('completions name what is wrong with the prompt', async () => {
  const ask = (model: string, prompt: unknown, more: object = {}) =>
    server.post('/v1/completions', { model, prompt, ...more });
  refused(await ask('causal', { country: 'France' }), 400, 'invalid_request', /a base LM takes text/, 'prompt');
  const text = await ask(ids.causalTwo!, ['one']);
  refused(text, 400, 'invalid_request', /prompt\[0\] is text.*"first", "second"/, 'prompt[0]');
  const long = await ask('causal', 'word '.repeat(70));
  refused(long, 400, 'template_too_long', /\d+ tokens long; "causal" takes at most 64/, 'prompt');
  const together = await ask('causal', 'Oslo', { max_tokens: 65 });
  refused(together, 400, 'template_too_long', /together \d+; "causal" takes at most 64/, 'prompt');
  assert.equal((await ask('causal', '', { max_tokens: 2 })).status, 200);
});

test('each route says which models it takes', async () => {
  const inputs = { country: 'France' };
  const cases: [string, string, RegExp][] = [
    ['/v1/fill_mask', 'causal', /causal LM.*completions/],
    ['/v1/fill_mask', ids.causalLabel!, /classifications/],
    ['/v1/classifications', 'masked', /base LM.*classification task/],
    ['/v1/classifications', ids.causalCapitals!, /fill_mask/],
    ['/v1/completions', 'masked', /fill_mask/],
    ['/v1/completions', ids.maskedCapitals!, /fill_mask/],
  ];
  for (const [path, model, message] of cases) {
    const answer = await server.post(path, { model, [path.endsWith('completions') ? 'prompt' : 'inputs']: inputs });
    refused(answer, 400, 'wrong_model_kind', message, 'model');
  }
});

test('numbers and booleans are text, as they are in a data file', async () => {
  for (const [value, text] of [
    [5, '5'],
    [-1.5, '-1.5'],
    [true, 'true'],
  ]) {
    const ask = (country: unknown) =>
      server.post('/v1/fill_mask', { model: ids.maskedCapitals, inputs: { country }, top_k: 3 });
    const found = await ask(value);
    assert.equal(found.status, 200, JSON.stringify(found.body));
    assert.deepEqual(found.body, (await ask(text)).body);
  }
});

test('unknown, mistyped and out-of-range fields are refused, nothing is dropped', async () => {
  const base = { model: 'causal', prompt: 'x' };
  const bad: [object | string, number][] = [
    [{ ...base, best_of: 2 }, 400],
    [{ ...base, max_tokens: '3' }, 400],
    [{ ...base, max_tokens: 0 }, 400],
    [{ ...base, temperature: 3 }, 400],
    [{ ...base, stop: ['a', 'b', 'c', 'd', 'e'] }, 400],
    [{ ...base, n: 2 }, 400],
    [{ ...base, echo: true }, 400],
    [{ ...base, logprobs: 21 }, 400],
    [{ ...base, prompt: { country: null } }, 400],
    [{ ...base, prompt: { country: ['x'] } }, 400],
    [{ ...base, prompt: [] }, 400],
    [{ prompt: 'x' }, 400],
    ['{"model": ', 400],
    ['[]', 400],
  ];
  for (const [body, status] of bad) {
    const answer = await server.post('/v1/completions', body);
    assert.equal(answer.status, status, JSON.stringify(body));
    assert.equal(answer.body.error.type, 'invalid_request_error');
  }
  assert.equal(
    (await server.post('/v1/fill_mask', { model: 'masked', inputs: { text: '[MASK]' }, top_k: 101 })).status,
    400,
  );
  assert.equal((await server.post('/v1/nothing', {})).status, 404);
});

test('health, readiness and metrics', async () => {
  assert.equal((await fetch(`${server.url}/healthz`)).status, 200);
  assert.equal((await fetch(`${server.url}/readyz`)).status, 200);
  const metrics = await (await fetch(`${server.url}/metrics`)).text();
  for (const name of [
    'batch_rows_count',
    'run_seconds_count',
    'request_seconds_count',
    'waiting_rows',
    'prompts',
    'lm_bytes',
  ]) {
    assert.match(metrics, new RegExp(`^ptuned_inference_${name}(\\{.*\\})? \\d`, 'm'), name);
  }
});
