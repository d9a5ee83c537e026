/** The API outlives what it depends on: Redis gone or hung, storage failing, and says so in time. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { rename } from 'node:fs/promises';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { test } from 'node:test';
import { startTestRedis } from '../support/redis.ts';
import { capitals, startTestService, type TestService, template } from './service.ts';

const job = { model: 'demo-bert', method: { type: 'p_tuning', p_tuning: { template } } };

/** Answers within 2.5 s with 503, Retry-After and the code. */
async function assertUnavailable(service: TestService, request: object, code: string): Promise<void> {
  const started = Date.now();
  const response = await service.app.inject(request);
  const seconds = (Date.now() - started) / 1000;
  assert.deepEqual([response.statusCode, response.json().error?.code], [503, code], response.body);
  assert.ok(Number(response.headers['retry-after']) > 0);
  assert.ok(seconds < 2.5, `${seconds} s`);
}

for (const kind of ['gone', 'hung'] as const) {
  test(`Redis that is ${kind}: 503 within 2.5 s, alive but not ready, what needs no Redis works`, async (t) => {
    const hung = createServer(() => {}).listen(0, '127.0.0.1');
    t.after(() => hung.close());
    await once(hung, 'listening');
    const { port } = hung.address() as { port: number };
    const service = await startTestService({ redisUrl: `redis://127.0.0.1:${kind === 'hung' ? port : 1}` });
    t.after(() => service.close());
    await service.registerDemo('demo-bert');
    const training_file = await service.upload(capitals);
    const payload = { ...job, training_file };
    const id = 'ftjob-000000000000000000000000';
    await assertUnavailable(service, { method: 'POST', url: '/v1/fine_tuning/jobs', payload }, 'queue_unavailable');
    await assertUnavailable(service, { url: '/v1/fine_tuning/jobs' }, 'queue_unavailable');
    await assertUnavailable(service, { url: `/v1/fine_tuning/jobs/${id}` }, 'queue_unavailable');
    await assertUnavailable(service, { method: 'POST', url: `/v1/fine_tuning/jobs/${id}/cancel` }, 'queue_unavailable');
    const status = async (request: object) => (await service.app.inject(request)).statusCode;
    assert.equal(await status({ url: '/healthz' }), 200);
    assert.equal(await status({ url: '/v1/models' }), 200);
    assert.equal(await status({ method: 'POST', url: '/v1/fine_tuning/validate', payload }), 200);
    const ready = await service.app.inject('/readyz');
    assert.equal(ready.statusCode, 503);
    const { status: word, checks } = ready.json();
    assert.deepEqual([word, checks.redis.ok, checks.storage.ok], ['unavailable', false, true]);
  });
}

test('Redis that comes back is used again within 5 s, and nothing has to be restarted', async (t) => {
  const redis = await startTestRedis();
  t.after(() => redis.close());
  const proxy = await startProxy(redis.url);
  t.after(() => proxy.stop());
  const service = await startTestService({ redisUrl: proxy.url });
  t.after(() => service.close());
  const list = () => service.app.inject('/v1/fine_tuning/jobs');
  assert.equal((await list()).statusCode, 200);
  assert.equal((await service.app.inject('/readyz')).json().status, 'ready');
  await proxy.stop();
  await assertUnavailable(service, { url: '/v1/fine_tuning/jobs' }, 'queue_unavailable');
  await proxy.start();
  const back = Date.now();
  while ((await list()).statusCode !== 200) assert.ok(Date.now() - back < 5000, 'still unavailable');
});

test('a data directory that is gone: not ready, 503 for uploads, alive', async (t) => {
  const service = await startTestService({ redisUrl: 'redis://127.0.0.1:1' });
  t.after(() => service.close());
  const { dataDirectory } = service.config;
  await rename(dataDirectory, `${dataDirectory}-away`);
  const { checks } = (await service.app.inject('/readyz')).json();
  assert.equal(checks.storage.ok, false);
  assert.equal((await service.app.inject('/healthz')).statusCode, 200);
  await rename(`${dataDirectory}-away`, dataDirectory);
  assert.equal((await service.app.inject('/readyz')).json().checks.storage.ok, true);
});

/** Forwards a port to Redis until it is told to stop. */
async function startProxy(redisUrl: string) {
  // Our own launcher gives the path of a socket.
  const address = redisUrl.startsWith('/') ? null : new URL(redisUrl);
  const target = address === null ? { path: redisUrl } : { host: address.hostname, port: Number(address.port) };
  const sockets = new Set<Socket>();
  let server: Server;
  let own = 0;
  const start = async () => {
    server = createServer((client) => {
      const inner = connect(target);
      for (const [from, to] of [
        [client, inner],
        [inner, client],
      ] as const) {
        sockets.add(from);
        from.on('error', () => to.destroy()).on('close', () => to.destroy());
        from.pipe(to);
      }
    }).listen(own, '127.0.0.1');
    await once(server, 'listening');
    own = (server.address() as { port: number }).port;
  };
  await start();
  return {
    url: `redis://127.0.0.1:${own}`,
    start,
    async stop() {
      server.close();
      for (const socket of sockets) socket.destroy();
      sockets.clear();
    },
  };
}
