/** Jobs over HTTP on a real Redis; no worker runs, so a job stays queued unless the test moves it. */
import assert from 'node:assert/strict';
import type { AddressInfo } from 'node:net';
import { after, before, test } from 'node:test';
import { startTestRedis, type TestRedis } from '../support/redis.ts';
import { capitals, startTestService, type TestService, template } from './service.ts';

let redis: TestRedis;
let service: TestService;
let training: string;

const ada = { authorization: 'Bearer key-of-ada-1' };
const bob = { authorization: 'Bearer key-of-bob-1' };

before(async () => {
  redis = await startTestRedis();
  const apiKeys = [
    { owner: 'ada', key: 'key-of-ada-1' },
    { owner: 'ada', key: 'key-of-ada-2' },
    { owner: 'bob', key: 'key-of-bob-1' },
  ];
  service = await startTestService({ redisUrl: redis.url, config: { apiKeys } });
  await service.registerDemo('demo-bert');
  training = await service.upload(capitals, ada);
});

after(async () => {
  await service?.close();
  await redis?.close();
});

const method = { type: 'p_tuning', p_tuning: { template, hyperparameters: { learning_rate: 'auto', n_epochs: 2 } } };

async function call(verb: 'GET' | 'POST', path: string, payload?: object, headers: Record<string, string> = {}) {
  const url = `/v1/fine_tuning/${path}`;
  const request = { method: verb, url, headers: { ...ada, ...headers }, ...(payload === undefined ? {} : { payload }) };
  const response = await service.app.inject(request);
  return { status: response.statusCode, body: response.json(), headers: response.headers };
}

function create(parts: object = {}, headers: Record<string, string> = {}) {
  return call('POST', 'jobs', { model: 'demo-bert', training_file: training, method, ...parts }, headers);
}

test('a job is answered in full, with every default resolved', async () => {
  const parts = {
    suffix: 'capitals',
    seed: 7,
    metadata: { team: 'a' },
    validation_file: training,
    test_file: training,
  };
  const { status, body } = await create(parts);
  assert.equal(status, 200);
  assert.match(body.id, /^ftjob-[0-9a-f]{24}$/);
  const { hyperparameters, method: resolved, id, created_at, ...rest } = body;
  assert.deepEqual(rest, {
    object: 'fine_tuning.job',
    finished_at: null,
    estimated_finish: null,
    status: 'queued',
    model: 'demo-bert',
    fine_tuned_model: null,
    organization_id: 'ada',
    training_file: training,
    validation_file: training,
    test_file: training,
    result_files: [],
    trained_tokens: null,
    seed: 7,
    metadata: { team: 'a' },
    integrations: [],
    error: null,
    progress: null,
    result: null,
  });
  assert.ok(Math.abs(created_at - Date.now() / 1000) < 10);
  assert.equal(hyperparameters.n_epochs, 2);
  assert.equal(typeof hyperparameters.learning_rate, 'number');
  assert.deepEqual(resolved.p_tuning.hyperparameters, hyperparameters);
  assert.deepEqual(resolved.p_tuning.template, template);
  assert.deepEqual(resolved.p_tuning.task, { type: 'cloze', metric: 'p_at_1' });
  assert.deepEqual((await call('GET', `jobs/${id}`)).body, body);
  const { spec } = await service.jobs.get(id, 'ada');
  assert.equal(spec.fineTunedModel, `ft:demo-bert:ada:capitals:${id.slice(6, 14)}`);
});

test('metrics tell how many jobs wait', async () => {
  const waiting = async () => {
    const { body } = await service.app.inject('/metrics');
    assert.match(body, /^ptuned_queue_jobs\{state="active"\} 0$/m);
    return Number(/^ptuned_queue_jobs\{state="waiting"\} (\d+)$/m.exec(body)?.[1]);
  };
  const before = await waiting();
  const { body } = await call('POST', 'jobs', { model: 'demo-bert', training_file: training, method });
  assert.equal(await waiting(), before + 1);
  await call('POST', `jobs/${body.id}/cancel`);
});

test('validate says what was found and makes no job', async () => {
  const before = (await call('GET', 'jobs?limit=100')).body.data.length;
  const { status, body } = await call('POST', 'validate', { model: 'demo-bert', training_file: training, method });
  assert.equal(status, 200);
  const { hyperparameters, method: resolved, message, training_file: found, total_steps, ...rest } = body;
  assert.deepEqual(rest, {
    object: 'fine_tuning.validation',
    model: 'demo-bert',
    kind: 'masked',
    validation_file: null,
    test_file: null,
    train_rows: 5,
    dev_rows: 1,
    virtual_tokens: 5,
    manual_prompt: true,
    candidates: 2921,
    words_left_out: 0,
  });
  assert.deepEqual([found.used, found.shortened, found.dropped], [6, 0, 0]);
  assert.ok(found.longest >= 9 && found.tokens >= 6 * 9, 'pseudo tokens, country and [MASK] between [CLS] and [SEP]');
  assert.equal(total_steps, 2 * Math.ceil(5 / hyperparameters.batch_size));
  assert.equal(resolved.p_tuning.hyperparameters.n_epochs, 2);
  assert.match(message, /learning rate 0.001/);
  assert.equal((await call('GET', 'jobs?limit=100')).body.data.length, before);
});

test('the SDK’s own forms of a method work: supervised, and none at all', async () => {
  const rows = [
    { prompt: 'The capital of Norway is', completion: 'Oslo' },
    { prompt: 'The capital of France is', completion: ' Paris' },
  ];
  const training_file = await service.upload(rows, ada);
  for (const given of [undefined, { type: 'supervised', supervised: { hyperparameters: { n_epochs: 3 } } }]) {
    const { status, body } = await create({ training_file, method: given });
    assert.equal(status, 200);
    assert.equal(body.method.type, 'p_tuning');
    assert.ok(body.method.p_tuning.template.some((segment: object) => 'target' in segment));
    if (given !== undefined) assert.equal(body.hyperparameters.n_epochs, 3);
  }
});

test('lists are pages, newest first, and metadata keeps those with all pairs', async () => {
  const ids: string[] = [];
  for (const [n, color] of ['red', 'blue', 'red'].entries()) {
    ids.unshift((await create({ metadata: { color, n: String(n), page: 'yes' } })).body.id);
  }
  const list = async (query: string) => {
    const { body } = await call('GET', `jobs?${query}`);
    return { ids: body.data.map((job: { id: string }) => job.id), more: body.has_more };
  };
  assert.deepEqual(await list('metadata[page]=yes'), { ids, more: false });
  assert.deepEqual(await list('metadata[page]=yes&limit=2'), { ids: ids.slice(0, 2), more: true });
  assert.deepEqual(await list(`metadata[page]=yes&limit=2&after=${ids[1]}`), { ids: ids.slice(2), more: false });
  assert.deepEqual(await list('metadata%5Bcolor%5D=red&metadata%5Bn%5D=0'), { ids: ids.slice(2), more: false });
  const unknown = await call('GET', 'jobs?after=ftjob-000000000000000000000000');
  assert.deepEqual([unknown.status, unknown.body.error.param], [400, 'after']);
});

test('cancel, pause and resume; a final state answers 409 that the SDK does not retry', async () => {
  const { body } = await create();
  // The Python SDK names a content type even where it sends nothing.
  const empty = { 'content-type': 'application/json' };
  const move = (verb: string) => call('POST', `jobs/${body.id}/${verb}`, undefined, empty);
  assert.equal((await move('pause')).body.status, 'paused');
  assert.equal((await move('resume')).body.status, 'queued');
  const cancelled = await move('cancel');
  assert.deepEqual([cancelled.status, cancelled.body.status], [200, 'cancelled']);
  assert.ok(cancelled.body.finished_at >= body.created_at);
  assert.equal(cancelled.body.trained_tokens, 0);
  const refused = await move('pause');
  assert.deepEqual([refused.status, refused.body.error.code], [409, 'conflict']);
  assert.equal(refused.headers['x-should-retry'], 'false');
});

test('20 requests at once with one Idempotency-Key are one job; another body is a conflict', async () => {
  const key = { 'idempotency-key': 'once' };
  const answers = await Promise.all(Array.from({ length: 20 }, () => create({ suffix: 'idem' }, key)));
  assert.deepEqual([...new Set(answers.map(({ status }) => status))], [200]);
  assert.equal(new Set(answers.map(({ body }) => body.id)).size, 1);
  assert.equal((await create({ suffix: 'idem' }, key)).body.id, answers[0]!.body.id);
  const other = await create({ suffix: 'other' }, key);
  assert.deepEqual([other.status, other.headers['x-should-retry']], [409, 'false']);
  assert.equal((await call('GET', 'jobs', undefined, { ...bob })).body.data.length, 0);
});

test('an SDK retry with the same body is the same job; the same body again is another', async () => {
  const body = { suffix: 'retried' };
  const retry = { 'x-stainless-retry-count': '1' };
  const first = await create(body, { 'x-stainless-retry-count': '0' });
  assert.equal((await create(body, retry)).body.id, first.body.id);
  const [second, retried] = await Promise.all([create(body), create(body, { 'x-stainless-retry-count': '2' })]);
  assert.notEqual(second.body.id, first.body.id);
  assert.equal(retried.body.id, second.body.id);
  const lost = await create({ suffix: 'first-never-came' }, retry);
  assert.equal(lost.status, 200);
});

test('another owner sees none of it, and another key of the same owner all of it', async () => {
  const { body } = await create();
  for (const [verb, path] of [
    ['GET', ''],
    ['GET', '/events'],
    ['GET', '/checkpoints'],
    ['POST', '/cancel'],
    ['POST', '/pause'],
    ['POST', '/resume'],
  ] as const) {
    const answer = await call(verb, `jobs/${body.id}${path}`, undefined, bob);
    assert.deepEqual([answer.status, answer.body.error.code], [404, 'job_not_found'], path);
  }
  const stolen = await create({}, bob);
  assert.deepEqual([stolen.status, stolen.body.error.code], [404, 'file_not_found']);
  const same = await call('GET', `jobs/${body.id}`, undefined, { authorization: 'bearer key-of-ada-2' });
  assert.equal(same.body.id, body.id);
});

test('without a key, or with a wrong one, the answer is 401 and says what is accepted', async () => {
  for (const authorization of [undefined, '', 'Bearer', 'Bearer key-of-ada-', 'Basic key-of-ada-1', 'key-of-ada-1']) {
    const headers = authorization === undefined ? {} : { authorization };
    const response = await service.app.inject({ url: '/v1/fine_tuning/jobs', headers });
    assert.equal(response.statusCode, 401);
    assert.equal(response.headers['www-authenticate'], 'Bearer');
    assert.deepEqual(
      [response.json().error.type, response.json().error.code],
      ['authentication_error', 'unauthorized'],
    );
  }
  assert.equal((await service.app.inject('/healthz')).statusCode, 200);
});

test('events: pages newest first, and a stream from the first to the end of the job', async () => {
  const { body } = await create();
  await call('POST', `jobs/${body.id}/pause`);
  const all = (await call('GET', `jobs/${body.id}/events`)).body;
  assert.equal(all.has_more, false);
  const [paused, accepted] = all.data;
  assert.deepEqual(Object.keys(paused), ['id', 'object', 'created_at', 'level', 'type', 'message', 'data']);
  const page = (await call('GET', `jobs/${body.id}/events?limit=1`)).body;
  assert.deepEqual(page, { object: 'list', data: [paused], has_more: true });
  const next = (await call('GET', `jobs/${body.id}/events?limit=1&after=${paused.id}`)).body;
  assert.deepEqual(next, { object: 'list', data: [accepted], has_more: false });

  const from = await openStream(body.id, {});
  assert.deepEqual(await from.take(2), [accepted, paused], 'from the beginning, as they are listed');
  const since = await openStream(body.id, { 'last-event-id': accepted.id });
  assert.deepEqual(await since.take(1), [paused], 'after the event that was seen last');
  await call('POST', `jobs/${body.id}/cancel`);
  for (const stream of [from, since]) {
    const [end, done] = await stream.take(2);
    assert.match(end.message, /cancelled/);
    assert.deepEqual(done, { id: body.id, status: 'cancelled' });
    assert.equal(await stream.ended(), true);
  }
  const { data } = (await call('GET', `jobs/${body.id}/events?limit=1`)).body;
  const again = await service.app.inject({
    url: `/v1/fine_tuning/jobs/${body.id}/events`,
    headers: { ...ada, accept: 'text/event-stream', 'last-event-id': data[0].id },
  });
  assert.equal(again.statusCode, 204, 'a browser that comes back after the end is told to stay away');
});

test('a stream that cannot begin is refused with a status', async () => {
  const { body } = await create();
  const wrong = await service.app.inject({
    url: `/v1/fine_tuning/jobs/${body.id}/events`,
    headers: { ...ada, accept: 'text/event-stream', 'last-event-id': 'nonsense' },
  });
  assert.deepEqual([wrong.statusCode, wrong.json().error.code], [400, 'invalid_request']);
  const absent = await service.app.inject({
    url: '/v1/fine_tuning/jobs/ftjob-000000000000000000000000/events',
    headers: { ...ada, accept: 'text/event-stream' },
  });
  assert.deepEqual([absent.statusCode, absent.json().error.code], [404, 'job_not_found']);
});

test('an open stream does not keep the service from closing', async () => {
  const { body } = await create();
  const stream = await openStream(body.id, {});
  await stream.take(1);
  const started = Date.now();
  await service.app.close();
  assert.equal(await stream.ended(), true);
  assert.ok(Date.now() - started < 3000);
});

let port = 0;

/** Reads server-sent events over real HTTP. */
async function openStream(id: string, headers: Record<string, string>) {
  if (port === 0) {
    await service.app.listen({ port: 0, host: '127.0.0.1' });
    port = (service.app.server.address() as AddressInfo).port;
  }
  const response = await fetch(`http://127.0.0.1:${port}/v1/fine_tuning/jobs/${id}/events`, {
    headers: { ...ada, ...headers, accept: 'text/event-stream' },
  });
  assert.equal(response.status, 200);
  assert.equal(response.headers.get('content-type'), 'text/event-stream');
  assert.match(response.headers.get('x-request-id') ?? '', /^req_/);
  const chunks = response.body!.pipeThrough(new TextDecoderStream())[Symbol.asyncIterator]();
  let text = '';
  const messages = () => text.split('\n\n').slice(0, -1);
  return {
    async take(count: number) {
      while (messages().length < count) {
        const { value, done } = await chunks.next();
        assert.ok(!done, `the stream ended after ${text}`);
        text += value;
      }
      const taken = messages().slice(0, count);
      text = text.slice(taken.join('\n\n').length + 2);
      return taken.map((message) => JSON.parse(/^data: (.*)$/m.exec(message)![1]!));
    },
    async ended() {
      return (await chunks.next()).done === true;
    },
  };
}
