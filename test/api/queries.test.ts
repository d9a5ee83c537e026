/** Queries: checked by the API, answered by an inference process that may be slow, down or gone in the middle. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import {
  createServer,
  request as httpRequest,
  type IncomingMessage,
  type Server,
  type ServerResponse,
} from 'node:http';
import type { AddressInfo } from 'node:net';
import { after, before, test } from 'node:test';
import { createInferenceClient } from '../../src/api/inference-client.ts';
import { startTestService, type TestService } from './service.ts';

let service: TestService;
let upstream: Server;
let answer: (request: IncomingMessage, response: ServerResponse, body: string) => void;

before(async () => {
  upstream = createServer(async (request, response) => {
    let body = '';
    for await (const chunk of request) body += chunk;
    answer(request, response, body);
  });
  upstream.listen(0, '127.0.0.1');
  await once(upstream, 'listening');
  const apiKeys = [{ owner: 'ada', key: 'key-of-ada' }];
  const inferenceUrl = `http://127.0.0.1:${(upstream.address() as AddressInfo).port}`;
  service = await startTestService({ redisUrl: 'redis://127.0.0.1:1', config: { apiKeys }, inferenceUrl });
  await service.app.listen({ port: 0, host: '127.0.0.1' });
});

after(async () => {
  await service?.close();
  upstream.closeAllConnections();
  upstream.close();
});

const headers = { authorization: 'Bearer key-of-ada', 'content-type': 'application/json' };
const base = () => `http://127.0.0.1:${(service.app.server.address() as AddressInfo).port}/v1`;

function ask(path: string, body: object, extra: Record<string, string> = {}) {
  return fetch(`${base()}${path}`, { method: 'POST', headers: { ...headers, ...extra }, body: JSON.stringify(body) });
}

const bodies = {
  '/fill_mask': { model: 'm', inputs: [{ country: 'Norway' }, { country: 'ü' }], top_k: 3 },
  '/classifications': { model: 'm', inputs: { text: 'fine' } },
  '/completions': { model: 'm', prompt: ['a', 'b'], max_tokens: 2, temperature: 0, stop: ['.'], seed: 1, logprobs: 0 },
};

test('a checked body goes through unchanged, with its owner and not the client’s headers', async () => {
  for (const [path, body] of Object.entries(bodies)) {
    let seen: unknown;
    answer = (request, response, text) => {
      const { url, method, headers: got } = request;
      seen = [url, method, got['x-ptuned-owner'], got.authorization, got.cookie, JSON.parse(text)];
      response.writeHead(200, { 'content-type': 'application/json', 'x-inner': '1' }).end('{"object":"x"}');
    };
    const response = await ask(path, body, { 'x-ptuned-owner': 'eve', cookie: 'a=b' });
    assert.deepEqual([response.status, await response.json()], [200, { object: 'x' }]);
    assert.deepEqual(seen, [`/v1${path}`, 'POST', 'ada', undefined, undefined, body]);
    assert.match(response.headers.get('x-request-id') ?? '', /^req_/);
    assert.equal(response.headers.get('x-inner'), null);
  }
});

test('bodies that are wrong are refused before inference hears of them', async () => {
  answer = () => assert.fail('inference was asked');
  const wrong: [path: string, body: object, param: string][] = [
    ['/fill_mask', { model: 'm', inputs: [] }, 'inputs'],
    ['/fill_mask', { model: 'm', inputs: { a: [1] } }, 'inputs.a'],
    ['/fill_mask', { model: 'm', inputs: [{ a: 'x' }, { a: null }] }, 'inputs[1].a'],
    ['/fill_mask', { model: 'm', inputs: { a: 'x' }, top_k: 0 }, 'top_k'],
    ['/classifications', { inputs: { a: 'x' } }, 'model'],
    ['/classifications', { model: 'm', inputs: { a: 'x' }, top_k: 1 }, 'top_k'],
    ['/completions', { model: 'm' }, 'prompt'],
    ['/completions', { model: 'm', prompt: 'x', n: 2 }, 'n'],
    ['/completions', { model: 'm', prompt: 'x', temperature: 3 }, 'temperature'],
    ['/completions', { model: 'm', prompt: 'x', frequency_penalty: 1 }, 'frequency_penalty'],
  ];
  for (const [path, body, param] of wrong) {
    const response = await ask(path, body);
    const { error } = (await response.json()) as { error: { param: string } };
    assert.deepEqual([response.status, error.param], [400, param], JSON.stringify(body));
  }
});

test('refusals of inference come through with status and headers', async () => {
  const error = { message: 'busy', type: 'server_error', param: null, code: 'overloaded' };
  answer = (_request, response) => {
    response.writeHead(503, { 'content-type': 'application/json', 'retry-after': '3' }).end(JSON.stringify({ error }));
  };
  const response = await ask('/fill_mask', bodies['/fill_mask']);
  assert.deepEqual([response.status, response.headers.get('retry-after')], [503, '3']);
  assert.deepEqual(await response.json(), { error });
});

test('a stream arrives as it is made', async () => {
  let proceed = () => {};
  answer = (_request, response) => {
    response.writeHead(200, { 'content-type': 'text/event-stream' }).write('data: {"n":1}\n\n');
    proceed = () => void response.end('data: [DONE]\n\n');
  };
  const response = await ask('/completions', { model: 'm', prompt: 'x', stream: true });
  assert.equal(response.headers.get('content-type'), 'text/event-stream');
  const chunks = response.body!.pipeThrough(new TextDecoderStream())[Symbol.asyncIterator]();
  assert.equal((await chunks.next()).value, 'data: {"n":1}\n\n', 'before the stream has ended');
  proceed();
  assert.equal((await chunks.next()).value, 'data: [DONE]\n\n');
  assert.equal((await chunks.next()).done, true);
});

test('a client that goes away ends the work at inference', async () => {
  const gone = new Promise((resolve) => {
    answer = (request) => void request.socket.once('close', resolve);
  });
  const { port } = service.app.server.address() as AddressInfo;
  const request = httpRequest({ port, host: '127.0.0.1', method: 'POST', path: '/v1/completions', headers });
  request.on('error', () => {});
  request.end(JSON.stringify(bodies['/completions']));
  setTimeout(() => request.destroy(), 100);
  await gone;
});

test('a connection that was closed meanwhile is not the client’s trouble', async () => {
  answer = (_request, response) => {
    response.end('{}');
  };
  assert.equal((await ask('/fill_mask', bodies['/fill_mask'])).status, 200);
  // The next request finds its kept-alive connection reset.
  answer = (request, response) => {
    answer = (_request, again) => void again.end('{"second":true}');
    if (request.headers.connection === 'close') response.end('{"first":true}');
    else request.socket.resetAndDestroy();
  };
  const response = await ask('/fill_mask', bodies['/fill_mask']);
  assert.deepEqual([response.status, await response.json()], [200, { second: true }]);
});

test('inference that is down, or does not answer, is 503 with retry-after', async () => {
  const down = createInferenceClient({ url: 'http://127.0.0.1:9' });
  const silent = createServer(() => {}).listen(0, '127.0.0.1');
  await once(silent, 'listening');
  const { port } = silent.address() as AddressInfo;
  const slow = createInferenceClient({ url: `http://127.0.0.1:${port}`, idleTimeout: 100 });
  // Packets to this address go nowhere (TEST-NET-1), or are refused at once where there is no route.
  const nowhere = createInferenceClient({ url: 'http://192.0.2.1:81', connectTimeout: 100 });
  for (const client of [down, slow, nowhere]) {
    const started = Date.now();
    await assert.rejects(client.post('/v1/fill_mask', {}, 'ada', new AbortController().signal), {
      code: 'inference_unavailable',
    });
    assert.ok(Date.now() - started < 1000);
    client.close();
  }
  silent.closeAllConnections();
  silent.close();

  const unreachable = await startTestService({ redisUrl: 'redis://127.0.0.1:1', inferenceUrl: 'http://127.0.0.1:9' });
  const response = await unreachable.app.inject({
    method: 'POST',
    url: '/v1/fill_mask',
    payload: bodies['/fill_mask'],
  });
  assert.deepEqual([response.statusCode, response.json().error.code], [503, 'inference_unavailable']);
  assert.ok(Number(response.headers['retry-after']) > 0);
  await unreachable.close();
});

test('an answer that breaks off breaks off for the client too', async () => {
  answer = (request, response) => {
    response.writeHead(200, { 'content-type': 'application/json', 'content-length': '100' }).write('{"half":');
    setTimeout(() => request.socket.destroy(), 50);
  };
  const response = await ask('/fill_mask', bodies['/fill_mask']);
  await assert.rejects(response.text());
  assert.equal((await fetch(base().replace('/v1', '/healthz'))).status, 200);
});
