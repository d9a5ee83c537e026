/** What belongs to no resource: health, metrics, documents, headers, broken requests, limits, logs. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type AddressInfo, connect } from 'node:net';
import { Writable } from 'node:stream';
import { after, before, test } from 'node:test';
import { pino } from 'pino';
import { createApp } from '../../src/api/app.ts';
import { capitals, startTestService, type TestService } from './service.ts';

let service: TestService;

before(async () => {
  service = await startTestService({ redisUrl: 'redis://127.0.0.1:1' });
  await service.app.listen({ port: 0, host: '127.0.0.1' });
});

after(() => service?.close());

test('metrics count requests by route and status, never by id', async () => {
  await service.app.inject('/v1/files/file-secret');
  const { headers, body } = await service.app.inject('/metrics');
  assert.match(String(headers['content-type']), /^text\/plain; version=/);
  assert.match(
    body,
    /http_request_duration_seconds_count\{method="GET",route="\/v1\/files\/:file_id",status="404"\} 1/,
  );
  assert.match(body, /process_cpu_seconds_total/);
  assert.ok(!body.includes('file-secret'));
  // Redis is gone: nothing is said of the queue, and the rest is.
  assert.doesNotMatch(body, /^ptuned_queue_jobs\{/m);
});

test('openapi.json and docs are served', async () => {
  const { statusCode, body } = await service.app.inject('/openapi.json');
  assert.equal(statusCode, 200);
  assert.equal(JSON.parse(body).openapi, '3.1.0');
  const docs = await service.app.inject('/docs');
  const page = docs.statusCode === 302 ? await service.app.inject(String(docs.headers.location)) : docs;
  assert.equal(page.statusCode, 200);
  assert.match(page.body, /swagger/i);
  for (const [, asset] of page.body.matchAll(/(?:src|href)="(\.?\/[^"]+\.(?:js|css))"/g)) {
    const url = new URL(asset!, 'http://x/docs/').pathname;
    assert.equal((await service.app.inject(url)).statusCode, 200, url);
  }
});

test('what is not HTTP, or no URL, is refused in the form of all errors', async () => {
  const { port } = service.app.server.address() as AddressInfo;
  for (const text of ['nonsense\r\n\r\n', 'GET /v1/%zz HTTP/1.1\r\nhost: x\r\n\r\n', 'GET / HTTP/9.9\r\n\r\n']) {
    const socket = connect(port, '127.0.0.1');
    socket.end(text);
    let answer = '';
    for await (const chunk of socket) answer += chunk;
    assert.match(answer, /^HTTP\/1.1 400 /, text);
    assert.equal(JSON.parse(answer.split('\r\n\r\n')[1]!).error.code, 'invalid_request');
  }
});

test('an unforeseen failure is 500 without a trace of the inside, which only the log has', async () => {
  const lines: string[] = [];
  const app = await createApp({
    ...service,
    logger: logTo(lines),
    models: { ...service.models, list: () => Promise.reject(new Error('secret of the inside')) },
  });
  const response = await app.inject('/v1/models');
  assert.deepEqual([response.statusCode, response.json().error.code], [500, 'internal']);
  assert.ok(!response.body.includes('secret') && !response.body.includes('.ts'));
  const logged = lines.filter((line) => line.includes('secret of the inside'));
  assert.equal(logged.length, 1);
  assert.ok(logged[0]!.includes(String(response.headers['x-request-id'])));
  await app.close();
});

test('a full disk is 503, not 500', async () => {
  const full = Object.assign(new Error('no space'), { code: 'ENOSPC' });
  const app = await createApp({ ...service, models: { ...service.models, list: () => Promise.reject(full) } });
  const response = await app.inject('/v1/models');
  assert.deepEqual([response.statusCode, response.json().error.code], [503, 'storage_unavailable']);
  await app.close();
});

test('logs name routes and requests, never keys, texts or names', async () => {
  const lines: string[] = [];
  const config = { ...service.config, apiKeys: [{ owner: 'ada', key: 'key-of-ada' }] };
  const app = await createApp({ ...service, config, logger: logTo(lines) });
  const headers = { authorization: 'Bearer key-of-ada' };
  await app.inject({ url: '/v1/fine_tuning/jobs?metadata[patient]=Smith', headers });
  await app.inject({
    method: 'POST',
    url: '/v1/fill_mask',
    headers,
    payload: { model: 'm', inputs: { text: 'Smith' } },
  });
  await app.inject({ method: 'POST', url: '/v1/models', headers, payload: { path: 'Smith' } });
  await app.inject({ url: '/v1/files/Smith', headers: { authorization: 'Bearer wrong-key' } });
  const log = lines.join('\n');
  assert.equal(lines.filter((line) => line.includes('"msg":"request"')).length, 4);
  assert.match(log, /"route":"\/v1\/fill_mask"/);
  for (const secret of ['Smith', 'key-of-ada', 'wrong-key', 'patient']) assert.ok(!log.includes(secret), secret);
  await app.close();
});

test('a rate limit, where configured, is by owner and says when to come back', async () => {
  const apiKeys = ['ada', 'bob'].map((owner) => ({ owner, key: `key-of-${owner}` }));
  const app = await createApp({ ...service, config: { ...service.config, apiKeys, rateLimit: 3 } });
  const get = (owner: string) => app.inject({ url: '/v1/files', headers: { authorization: `Bearer key-of-${owner}` } });
  for (let n = 0; n < 3; n++) assert.equal((await get('ada')).statusCode, 200);
  const refused = await get('ada');
  assert.deepEqual([refused.statusCode, refused.json().error.code], [429, 'rate_limited']);
  assert.ok(Number(refused.headers['retry-after']) >= 1);
  assert.equal((await get('bob')).statusCode, 200);
  assert.equal((await app.inject('/healthz')).statusCode, 200);
  await app.close();
});

test('ten thousand allowed words pass, and a client that sends slowly does not hold others up', async () => {
  const { port } = service.app.server.address() as AddressInfo;
  const slow = connect(port, '127.0.0.1');
  slow.write(
    'POST /v1/fill_mask HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{',
  );
  await once(slow, 'connect');
  await service.registerDemo('demo-gpt2');
  const training_file = await service.upload(capitals);
  const allowed_words = [...capitals.map((row) => row.obj_label), ...Array.from({ length: 10_000 }, (_, n) => `w${n}`)];
  const template = [{ virtual: 2 }, { field: 'sub_label' }, { target: 'obj_label' }];
  const p_tuning = { template, task: { type: 'cloze', allowed_words } };
  const payload = { model: 'demo-gpt2', training_file, method: { type: 'p_tuning', p_tuning } };
  const response = await service.app.inject({ method: 'POST', url: '/v1/fine_tuning/validate', payload });
  assert.equal(response.statusCode, 200, response.body.slice(0, 500));
  const { candidates, words_left_out } = response.json();
  assert.ok(candidates >= 6 && candidates + words_left_out <= 10_006);
  slow.destroy();
});

function logTo(lines: string[]) {
  const stream = new Writable({
    write(chunk, _encoding, done) {
      lines.push(String(chunk));
      done();
    },
  });
  return pino({ level: 'trace' }, stream);
}
