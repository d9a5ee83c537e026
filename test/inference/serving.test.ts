/** Many requests at once: batches, overload, clients that go, and stopping. */
import assert from 'node:assert/strict';
import { connect } from 'node:net';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Task, Template } from '../../src/tasks/schema.ts';
import { type Answer, startTestServer, type TestServer, type TestServerOptions } from '../support/inference.ts';

const cloze: Template = [{ virtual: 2 }, { field: 'country' }, { virtual: 1 }, { target: 'capital' }];
const short: Template = [{ virtual: 1 }, { field: 'country' }, { target: 'capital' }];
const words: Task = { type: 'cloze', allowed_words: ['Paris', 'Oslo', 'Rome', 'Helsinki'] };
const labels: Task = { type: 'classification', labels: { north: 'Oslo', south: 'Rome' } };
const countries = ['France', 'Norway', 'the Republic of Italy', 'Finland and Sweden', 'a', 'Spain'];

async function withServer(options: TestServerOptions, use: (server: TestServer) => Promise<void>): Promise<void> {
  const server = await startTestServer(options);
  try {
    await use(server);
  } finally {
    await server.close();
  }
}

test('mixed prompts, routes and base queries together give what each gives alone, in a few runs', async () => {
  await withServer({}, async (server) => {
    const prompts = ['p', 'q', 'r', 's', 't'];
    const tuned: string[] = [];
    for (const name of prompts) tuned.push(await server.tune('causal', name, name < 'r' ? cloze : short, words));
    const classifier = await server.tune('causal', 'c', cloze, labels);
    const requests: [string, object][] = [];
    for (const country of countries) {
      for (const model of tuned) requests.push(['/v1/fill_mask', { model, inputs: { country } }]);
      requests.push(['/v1/classifications', { model: classifier, inputs: [{ country }, { country: 'Norway' }] }]);
      requests.push(['/v1/completions', { model: tuned[0], prompt: country }]);
      requests.push(['/v1/completions', { model: 'causal', prompt: country, max_tokens: 1, temperature: 0 }]);
      const generated = { prompt: country, max_tokens: 5, temperature: 1, seed: 3 };
      requests.push(['/v1/completions', { model: 'causal', ...generated }]);
      requests.push(['/v1/completions', { model: tuned[1], ...generated }]);
    }
    const answerOf = ({ status, body }: Answer) => {
      assert.equal(status, 200, JSON.stringify(body));
      return { data: body.data, choices: body.choices, usage: body.usage };
    };
    const alone: unknown[] = [];
    for (const [path, body] of requests) alone.push(answerOf(await server.post(path, body)));
    const { runs } = server.lms.get('causal')!;
    const before = runs.length;
    const together = await Promise.all(requests.map(async ([path, body]) => answerOf(await server.post(path, body))));
    assert.deepEqual(together, alone);
    assert.ok(runs.length - before < before / 3, `${runs.length - before} runs together, ${before} alone`);
  });
});

test('overload: what does not fit is refused at once with Retry-After, the rest is served, then all is as before', async () => {
  const limits = { waitingRows: 16, batchRows: 4 };
  await withServer({ limits, lm: { runMs: 300 } }, async (server) => {
    const ask = async () => {
      const started = performance.now();
      const answer = await server.post('/v1/fill_mask', { model: 'masked', inputs: { text: '[MASK]' } });
      return { answer, status: answer.status, ms: performance.now() - started };
    };
    await ask();
    const all = Promise.all(Array.from({ length: 120 }, ask));
    await sleep(50);
    assert.equal((await fetch(`${server.url}/healthz`)).status, 200);
    const answers = await all;
    const refused = answers.filter(({ status }) => status === 503);
    const served = answers.filter(({ status }) => status === 200);
    assert.equal(refused.length + served.length, 120);
    assert.ok(served.length >= 16 && refused.length >= 60, `${served.length} served, ${refused.length} refused`);
    for (const { answer } of refused) {
      assert.equal(answer.body.error.code, 'overloaded');
      assert.ok(Number(answer.headers.get('retry-after')) >= 1);
    }
    // The queue needs four runs, 1200 ms; a refusal waits for none of them.
    assert.ok(Math.max(...served.map(({ ms }) => ms)) >= 1200);
    assert.ok(Math.max(...refused.map(({ ms }) => ms)) < 1200);
    assert.equal((await ask()).status, 200);
  });
});

test('a full queue refuses what it knows without asking the store', async () => {
  const limits = { waitingRows: 4, batchRows: 4 };
  await withServer({ limits, lm: { runMs: 1000 } }, async (server) => {
    const body = { model: 'masked', inputs: { text: '[MASK]' } };
    const ask = () => server.post('/v1/fill_mask', body);
    assert.equal((await ask()).status, 200);
    const taken = Array.from({ length: 30 }, ask);
    // The first run has begun, and as many wait as may.
    await sleep(300);
    let asked = 0;
    const { models } = server;
    const get = models.get.bind(models);
    models.get = (id) => {
      asked++;
      return get(id);
    };
    const refused = await Promise.all(Array.from({ length: 5 }, ask));
    assert.deepEqual(
      refused.map(({ status }) => status),
      [503, 503, 503, 503, 503],
    );
    assert.equal(asked, 0);
    const generated = await server.post('/v1/completions', { model: 'causal', prompt: 'Oslo', max_tokens: 1 });
    assert.equal(generated.status, 200);
    assert.equal(asked, 1);
    assert.ok((await Promise.all(taken)).some(({ status }) => status === 200));
  });
});

test('requests that wait too long are refused', async () => {
  await withServer({ limits: { waitMs: 300, batchRows: 1 }, lm: { runMs: 400 } }, async (server) => {
    const ask = () => server.post('/v1/fill_mask', { model: 'masked', inputs: { text: '[MASK]' } });
    const statuses = (await Promise.all([ask(), ask(), ask()])).map(({ status }) => status);
    assert.deepEqual(statuses.sort(), [200, 503, 503]);
  });
});

test('a client that goes away leaves the queue and ends its generation', async () => {
  await withServer({ limits: { generations: 1 }, lm: { runMs: 20 } }, async (server) => {
    const gone = new AbortController();
    const request = { model: 'causal', prompt: 'Oslo', max_tokens: 60 };
    const bodies = [{ ...request, stream: true }, request, { ...request, temperature: 0 }];
    const leaving = bodies.map((body) => server.post('/v1/completions', body, 'local', gone.signal));
    while ((server.lms.get('causal')?.runs.length ?? 0) < 3) await sleep(5);
    gone.abort();
    for (const one of leaving) await assert.rejects(one);
    const { runs } = server.lms.get('causal')!;
    await sleep(60);
    const after = runs.length;
    await sleep(150);
    assert.equal(runs.length, after, 'the LM goes on for nobody');
    const metrics = await (await fetch(`${server.url}/metrics`)).text();
    assert.match(metrics, /^ptuned_inference_waiting_rows\{model="causal"\} 0$/m);
    assert.equal((await server.post('/v1/completions', { ...request, max_tokens: 2 })).status, 200);
  });
});

test('a client that does not read its stream does not hold up others', async () => {
  await withServer({}, async (server) => {
    const { port } = new URL(server.url);
    const socket = connect(Number(port), '127.0.0.1');
    socket.on('error', () => undefined);
    const body = JSON.stringify({ model: 'causal', prompt: 'Oslo', max_tokens: 50, stream: true });
    socket.write(`POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n`);
    socket.write(`content-length: ${Buffer.byteLength(body)}\r\n\r\n${body}`);
    socket.pause();
    for (let i = 0; i < 5; i++) {
      assert.equal(
        (await server.post('/v1/completions', { model: 'causal', prompt: 'Rome', max_tokens: 5 })).status,
        200,
      );
    }
    socket.destroy();
  });
});

test('a failure after the first piece ends the stream with an error event; before it, it is an ordinary answer', async () => {
  let runs = 0;
  const failing: TestServerOptions['lm'] = {
    beforeRun: () => {
      if (++runs > 1) throw new Error('out of memory');
    },
  };
  await withServer({ lm: failing }, async (server) => {
    const request = { model: 'causal', prompt: 'Oslo', max_tokens: 5, stream: true };
    assert.equal((await server.post('/v1/completions', { ...request, max_tokens: 1 })).status, 200);
    const failed = await server.post('/v1/completions', request);
    assert.deepEqual([failed.status, failed.body.error.code], [500, 'internal']);
    assert.ok(!JSON.stringify(failed.body).includes('memory'), 'the inside is not told');
  });
});

test('closing lets requests finish, refuses new ones in the usual form, and ends', async () => {
  const server = await startTestServer({ lm: { runMs: 30 } });
  const running = server.post('/v1/completions', { model: 'causal', prompt: 'Oslo', max_tokens: 10, temperature: 0 });
  await sleep(100);
  const closed = server.app.close();
  const { status, body } = await running;
  assert.equal(status, 200);
  assert.ok(body.usage.completion_tokens > 1);
  await closed;
  assert.ok(server.lms.get('causal')!.closed);
  await server.close();
});

test('closing ends what takes too long', async () => {
  const server = await startTestServer({ lm: { runMs: 100 }, limits: { drainMs: 150 } });
  const running = server.post('/v1/completions', { model: 'causal', prompt: 'Oslo', max_tokens: 60 });
  await sleep(120);
  const started = performance.now();
  const closed = server.app.close();
  assert.deepEqual([(await running).status, (await running).body.error.code], [503, 'inference_unavailable']);
  await closed;
  assert.ok(performance.now() - started < 2000);
  await server.close();
});
