/** Every row of the table "bad input gets" that the API answers, over a real Redis, real files and the demo LMs. */
import assert from 'node:assert/strict';
import { cp, mkdtemp, realpath, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { startTestRedis, type TestRedis } from '../support/redis.ts';
import { capitals, shippedModels, startTestService, type TestService, template } from './service.ts';

let redis: TestRedis;
let service: TestService;
let root: string;

before(async () => {
  root = await realpath(await mkdtemp(join(tmpdir(), 'ptuned-lms-')));
  redis = await startTestRedis();
  service = await startTestService({ redisUrl: redis.url, config: { modelRoots: [root] } });
  await service.registerDemo('demo-bert');
  await service.registerDemo('demo-gpt2');
});

after(async () => {
  await service?.close();
  await redis?.close();
  await rm(root, { recursive: true });
});

async function post(url: string, payload: object) {
  const response = await service.app.inject({ method: 'POST', url, payload });
  return { status: response.statusCode, error: response.json().error };
}

/** Posts a job and its dry run, which must refuse it alike. */
async function postJob(parts: object) {
  const job = await post('/v1/fine_tuning/jobs', parts);
  assert.deepEqual(await post('/v1/fine_tuning/validate', parts), job);
  return job;
}

const tuning = (p_tuning: object) => ({ method: { type: 'p_tuning', p_tuning: { template, ...p_tuning } } });
const lines = capitals.map((row) => JSON.stringify(row));
const sentiment = [{ virtual: 2 }, { field: 'text' }, { target: 'label' }];
const labels = { good: 'Paris', bad: 'Rome' };

const badData: [name: string, content: string, code: string, message: RegExp][] = [
  ['a broken line', [lines[0], lines[1], '{"sub_label": "Norway"'].join('\n'), 'invalid_json', /Line 3.* is not JSON/],
  ['a line that is no object', [lines[0], '[1]'].join('\n'), 'invalid_json', /Line 2 is a list/],
  [
    'a missing field',
    [lines[0], '{"obj_label": "Oslo"}'].join('\n'),
    'invalid_data',
    /Line 2: Field "sub_label" is missing/,
  ],
  [
    'a missing target',
    [lines[0], '{"sub_label": "Oslo"}'].join('\n'),
    'invalid_data',
    /Line 2: Field "obj_label" is missing/,
  ],
  [
    'a field that is null',
    '{"sub_label": null, "obj_label": "Oslo"}',
    'invalid_data',
    /Line 1: Field "sub_label" is null/,
  ],
  [
    'a target of two tokens',
    [...lines, '{"sub_label": "Malaysia", "obj_label": "Kuala Lumpur"}'].join('\n'),
    'target_not_one_token',
    /Line 7: Field "obj_label".*"Kuala Lumpur".*Kuala.*Lumpur/,
  ],
  ['one row', lines[0]!, 'invalid_data', /at least 2/],
  ['only empty lines', '\n\n', 'empty_file', /no rows/],
];

for (const [name, content, code, message] of badData) {
  test(`data with ${name} is refused with file, line and field`, async () => {
    const training_file = await service.upload(content);
    const { status, error } = await postJob({ model: 'demo-bert', training_file, ...tuning({}) });
    assert.equal(status, 400);
    assert.equal(error.code, code);
    assert.equal(error.param, 'training_file');
    assert.match(error.message, /^training_file: /);
    assert.match(error.message, message);
  });
}

test('rows of other fields in a job without a template are told what rows it takes', async () => {
  const training_file = await service.upload(capitals);
  const { error } = await postJob({ model: 'demo-gpt2', training_file });
  assert.match(
    error.message,
    /^training_file: Line 1: Field "completion" is missing .*Without a template rows have "prompt"/,
  );
  const { error: own } = await postJob({ model: 'demo-gpt2', training_file, ...tuning({ template: sentiment }) });
  assert.doesNotMatch(own.message, /Without a template/);
});

test('validation and test files are read as wholly, and named', async () => {
  const training_file = await service.upload(capitals);
  const bad = await service.upload([lines[0], '{'].join('\n'));
  for (const field of ['validation_file', 'test_file']) {
    const { error } = await postJob({ model: 'demo-gpt2', training_file, [field]: bad, ...tuning({}) });
    assert.deepEqual([error.code, error.param], ['invalid_json', field]);
    assert.match(error.message, new RegExp(`^${field}: Line 2`));
  }
});

test('an unknown label is refused with line, field and the labels there are', async () => {
  const training_file = await service.upload([
    { text: 'a', label: 'good' },
    { text: 'b', label: 'goood' },
  ]);
  const task = { type: 'classification', labels };
  const { status, error } = await postJob({
    model: 'demo-bert',
    training_file,
    ...tuning({ template: sentiment, task }),
  });
  assert.deepEqual([status, error.code], [400, 'unknown_label']);
  assert.match(error.message, /Line 2: Field "label".*"goood".*"good", "bad"/);
});

test('an empty upload is refused', async () => {
  await assert.rejects(service.upload(''), /empty_file/);
});

const badTasks: [name: string, model: string, labels: object, code: string, message: RegExp][] = [
  ['two labels with one token', 'demo-bert', { a: 'Paris', b: 'Paris' }, 'verbalizer_conflict', /"a".*"b".*Paris/],
  [
    'a verbalizer that becomes unknown',
    'demo-bert',
    { a: '✈', b: 'Rome' },
    'target_not_one_token',
    /✈.*unknown token \[UNK\]/,
  ],
  [
    'a verbalizer of three tokens',
    'demo-gpt2',
    { a: 'Springfield', b: 'Rome' },
    'target_not_one_token',
    /Springfield.*tokens \(/,
  ],
];

for (const [name, model, wrong, code, message] of badTasks) {
  test(`${name}: 400 naming the word and its tokens`, async () => {
    const training_file = await service.upload([{ text: 'x', label: 'a' }]);
    const task = { type: 'classification', labels: wrong };
    const { status, error } = await postJob({ model, training_file, ...tuning({ template: sentiment, task }) });
    assert.deepEqual([status, error.code], [400, code]);
    assert.match(error.message, message);
  });
}

const badTemplates: [name: string, template: object[], code: string, message: RegExp][] = [
  ['without a target', [{ virtual: 3 }, { field: 'sub_label' }], 'invalid_template', /0 targets/],
  ['without virtual tokens', [{ field: 'sub_label' }, { target: 'obj_label' }], 'invalid_template', /no pseudo tokens/],
  [
    'that goes on behind the target',
    [{ virtual: 3 }, { target: 'obj_label' }, { text: '.' }],
    'invalid_template',
    /behind its target/,
  ],
  [
    'longer than the LM takes',
    [{ virtual: 70 }, { field: 'sub_label' }, { target: 'obj_label' }],
    'template_too_long',
    /at most 64/,
  ],
  [
    'with more words than pseudo tokens',
    [{ virtual: 1, init: 'The capital of' }, { target: 'obj_label' }],
    'invalid_template',
    /3 tokens/,
  ],
];

for (const [name, wrong, code, message] of badTemplates) {
  test(`a template ${name} is refused`, async () => {
    const training_file = await service.upload(capitals);
    const { status, error } = await postJob({ model: 'demo-gpt2', training_file, ...tuning({ template: wrong }) });
    assert.deepEqual([status, error.code], [400, code]);
    assert.match(error.message, message);
  });
}

test('unknown things are 404 in the form of all errors', async () => {
  const training_file = await service.upload(capitals);
  const model = 'demo-bert';
  const absent = 'file-000000000000000000000000';
  const words = { type: 'cloze', allowed_words_file: absent };
  const posts: [object, string, string][] = [
    [{ model: 'absent', training_file, ...tuning({}) }, 'model_not_found', 'model'],
    [{ model: '../demo-bert', training_file, ...tuning({}) }, 'model_not_found', 'model'],
    [{ model, training_file: absent, ...tuning({}) }, 'file_not_found', 'training_file'],
    [{ model, training_file: '../../etc/passwd', ...tuning({}) }, 'file_not_found', 'training_file'],
    [{ model, training_file, validation_file: absent, ...tuning({}) }, 'file_not_found', 'validation_file'],
    [{ model, training_file, test_file: absent, ...tuning({}) }, 'file_not_found', 'test_file'],
    [{ model, training_file, ...tuning({ task: words }) }, 'file_not_found', 'method.p_tuning.task.allowed_words_file'],
  ];
  for (const [body, code, param] of posts) {
    const { status, error } = await postJob(body);
    assert.deepEqual([status, error.code, error.param], [404, code, param]);
  }
  const gets: [string, string, string][] = [
    ['GET', '/v1/files/file-0', 'file_not_found'],
    ['GET', '/v1/files/..%2f..%2fjobs/content', 'file_not_found'],
    ['DELETE', `/v1/files/${absent}`, 'file_not_found'],
    ['GET', '/v1/fine_tuning/jobs/ftjob-0', 'job_not_found'],
    ['POST', '/v1/fine_tuning/jobs/ftjob-000000000000000000000000/cancel', 'job_not_found'],
    ['GET', '/v1/fine_tuning/jobs/ftjob-000000000000000000000000/events', 'job_not_found'],
    ['GET', '/v1/fine_tuning/jobs/ftjob-000000000000000000000000/checkpoints', 'job_not_found'],
    ['GET', '/v1/models/absent', 'model_not_found'],
    ['GET', '/v1/models/ft%3Ademo-bert%3Alocal%3A%3A00000000', 'model_not_found'],
    ['DELETE', '/v1/models/absent', 'model_not_found'],
    ['GET', '/v1/unknown', 'not_found'],
    ['PATCH', '/v1/models', 'not_found'],
  ];
  for (const [method, url, code] of gets) {
    const response = await service.app.inject({ method: method as 'GET', url });
    assert.equal(response.statusCode, 404, url);
    const { error } = response.json();
    assert.deepEqual(Object.keys(error), ['message', 'type', 'param', 'code']);
    assert.equal(error.code, code, url);
    assert.match(String(response.headers['x-request-id']), /^req_[0-9a-f]{24}$/);
  }
});

test('a tuned prompt as the base of a job is refused for now, saying what is accepted', async () => {
  const { status, error } = await postJob({ model: 'ft:demo-bert:local::00000000', training_file: 'file-0' });
  assert.deepEqual([status, error.param], [400, 'model']);
  assert.match(error.message, /accepted: the id of a base LM/);
});

test('hyperparameters that contradict each other are refused', async () => {
  const training_file = await service.upload(capitals);
  const hyperparameters = { schedule: 'constant', gamma: 0.9 };
  const { status, error } = await postJob({ model: 'demo-bert', training_file, ...tuning({ hyperparameters }) });
  assert.deepEqual([status, error.param], [400, 'method.p_tuning.hyperparameters.gamma']);
});

test('bodies that are not JSON objects of the right form are refused', async () => {
  const send = async (headers: Record<string, string>, payload: string) => {
    const response = await service.app.inject({ method: 'POST', url: '/v1/fine_tuning/jobs', headers, payload });
    messages.push(response.json().error.message);
    return [response.statusCode, response.json().error.code, response.json().error.type];
  };
  const messages: string[] = [];
  const json = { 'content-type': 'application/json' };
  assert.deepEqual(await send(json, '{"model"'), [400, 'invalid_json', 'invalid_request_error']);
  assert.deepEqual(await send(json, ''), [400, 'invalid_request', 'invalid_request_error']);
  assert.deepEqual(await send(json, '{"__proto__": 1}'), [400, 'invalid_json', 'invalid_request_error']);
  assert.deepEqual(await send({ 'content-type': 'text/plain' }, 'x'), [
    415,
    'unsupported_media_type',
    'invalid_request_error',
  ]);
  assert.deepEqual(await send(json, `"${'x'.repeat(9 << 20)}"`), [413, 'payload_too_large', 'invalid_request_error']);
  const told = [
    /JSON at position 8/,
    /^the body is missing/,
    /"__proto__"/,
    /accepted: application\/json/,
    /than 8388608 b/,
  ];
  for (const [index, wanted] of told.entries()) assert.match(messages[index]!, wanted);
});

test('LMs that are damaged, incomplete or outside the roots are refused and the service stays up', async () => {
  const copy = async (name: string) => {
    await cp(join(shippedModels, 'demo-bert'), join(root, name), { recursive: true });
    return join(root, name);
  };
  await truncate(join(await copy('truncated'), 'model.onnx'), 100_000);
  await writeFile(join(await copy('hostile'), 'model.onnx'), Buffer.alloc(5000, 0xff));
  await rm(join(await copy('no-weights'), 'model.onnx'));
  await rm(join(await copy('no-tokenizer'), 'tokenizer.json'));
  const refusals: [path: string, code: RegExp, message: RegExp][] = [
    [join(root, 'truncated'), /damaged_model/, /model\.onnx/],
    [join(root, 'hostile'), /damaged_model/, /model\.onnx/],
    [join(root, 'no-weights'), /missing_file/, /model\.onnx/],
    [join(root, 'no-tokenizer'), /missing_file/, /tokenizer\.json/],
    ['/etc', /import_refused/, new RegExp(`accepted: an existing folder inside ${root}`)],
    ['demo/../../etc', /import_refused/, /accepted/],
  ];
  for (const [path, code, message] of refusals) {
    const { status, error } = await post('/v1/models', { path, id: 'wrong' });
    assert.equal(status, 400, path);
    assert.match(error.code, code);
    assert.match(error.message, message);
  }
  assert.equal((await service.app.inject('/healthz')).statusCode, 200);
  assert.equal(await service.models.get('wrong'), null);
});

test('none of all this has made a job', async () => {
  const response = await service.app.inject('/v1/fine_tuning/jobs');
  assert.deepEqual(response.json(), { object: 'list', data: [], has_more: false });
});
