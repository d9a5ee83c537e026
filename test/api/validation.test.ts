/** Refusals of request bodies name the field, what was found and what is accepted. */
import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import { type FastifyInstance, fastify } from 'fastify';
import { accepts } from '../../src/api/describe.ts';
import { toPtunedError } from '../../src/api/errors.ts';
import { JobCreate, ListJobsQuery } from '../../src/api/schemas/jobs.ts';
import { explainValidation } from '../../src/api/validation.ts';
import { CompletionRequest } from '../../src/inference/schema.ts';

let app: FastifyInstance;

before(async () => {
  app = fastify({
    ajv: {
      customOptions: {
        removeAdditional: false,
        coerceTypes: false,
        useDefaults: false,
        verbose: true,
        keywords: [accepts],
      },
    },
    schemaErrorFormatter: explainValidation,
  });
  app.setErrorHandler((error, _request, reply) => {
    const { param, message } = toPtunedError(error);
    return reply.code(400).send({ param, message });
  });
  app.post('/job', { schema: { body: JobCreate } }, async (request) => request.body);
  app.post('/completion', { schema: { body: CompletionRequest } }, async (request) => request.body);
  app.get('/jobs', { schema: { querystring: ListJobsQuery } }, async (request) => request.query);
  await app.ready();
});

const job = { model: 'm', training_file: 'file-1' };
const template = [{ virtual: 3 }, { field: 'x' }, { target: 'y' }];
const tuned = (p_tuning: object) => ({ ...job, method: { type: 'p_tuning', p_tuning } });

const refused: [name: string, url: string, body: unknown, param: string | null, message: RegExp][] = [
  ['a missing field', '/job', { model: 'm' }, 'training_file', /training_file is missing; accepted: a string of 1 to/],
  [
    'an unknown field',
    '/job',
    { ...job, learning_rate: 1 },
    'learning_rate',
    /not a known field; accepted: model, tra/,
  ],
  ['a mistyped field', '/job', { ...job, model: 7 }, 'model', /model is 7; accepted: a string/],
  [
    'a number as text',
    '/job',
    { ...job, seed: '34' },
    'seed',
    /seed is "34"; accepted: a whole number from 0 to \d+ or null/,
  ],
  ['a number out of range', '/job', { ...job, seed: -1 }, 'seed', /seed is -1; accepted: a whole number from 0/],
  ['a fraction', '/job', { ...job, seed: 1.5 }, 'seed', /seed is 1.5; accepted: a whole number/],
  [
    'a suffix with a colon',
    '/job',
    { ...job, suffix: 'a:b' },
    'suffix',
    /suffix is "a:b"; accepted: 1 to 64 letters, digits, ".", "_" or "-"\.$/,
  ],
  ['17 pairs of metadata', '/job', { ...job, metadata: pairs(17) }, 'metadata', /at most 16/],
  ['a long name', '/job', { ...job, metadata: { ['a'.repeat(65)]: 'b' } }, 'metadata', /has the name "a+"; .* 64 char/],
  [
    'metadata that is no text',
    '/job',
    { ...job, metadata: { a: 1 } },
    'metadata.a',
    /metadata.a is 1; accepted: a string/,
  ],
  [
    'an unknown method',
    '/job',
    { ...job, method: { type: 'dpo' } },
    'method.type',
    /"dpo"; accepted: "p_tuning" or "prompt_tuning" or .* or "supervised"/,
  ],
  [
    'a method without type',
    '/job',
    { ...job, method: {} },
    'method.type',
    /method.type is missing; accepted: "p_tuning"/,
  ],
  [
    'the wrong section',
    '/job',
    { ...job, method: { type: 'supervised', p_tuning: {} } },
    'method.p_tuning',
    /not a known/,
  ],
  ['a method without template', '/job', tuned({}), 'method.p_tuning.template', /template is missing/],
  [
    'a classification without labels',
    '/job',
    tuned({ template: [{ virtual: 1 }, { target: 'y' }], task: { type: 'classification' } }),
    'method.p_tuning.task.labels',
    /labels is missing; accepted: an object, each value a string of 1 to 200 characters or a list of 1 to 50/,
  ],
  [
    'an empty template',
    '/job',
    tuned({ template: [] }),
    'method.p_tuning.template',
    /a list of 0; accepted: a list of 1/,
  ],
  [
    'no virtual tokens',
    '/job',
    tuned({ template: [{ virtual: 0 }] }),
    'method.p_tuning.template[0].virtual',
    /from 1 to/,
  ],
  [
    'an unknown segment',
    '/job',
    tuned({ template: [{ virtual: 1 }, { fild: 'x' }] }),
    'method.p_tuning.template[1]',
    /an object with fild; accepted: \{virtual, init\} or \{field, shortenable, join\} or \{text, join\} or \{target/,
  ],
  [
    'an unknown field in a segment',
    '/job',
    tuned({ template: [{ field: 'x', shorten: true }] }),
    'method.p_tuning.template[0].shorten',
    /not a known field; accepted in method.p_tuning.template\[0\]: field, shortenable, join/,
  ],
  [
    'an unknown hyperparameter',
    '/job',
    tuned({ template, hyperparameters: { lr: 1 } }),
    'method.p_tuning.hyperparameters.lr',
    /not a known field; accepted in method.p_tuning.hyperparameters: preset, learning_rate/,
  ],
  [
    'a learning rate in words',
    '/job',
    tuned({ template, hyperparameters: { learning_rate: 'fast' } }),
    'method.p_tuning.hyperparameters.learning_rate',
    /is "fast"; accepted: a number above 0 and of at most 1e\+30 or "auto"/,
  ],
  [
    'a negative learning rate',
    '/job',
    tuned({ template, hyperparameters: { learning_rate: -1 } }),
    'method.p_tuning.hyperparameters.learning_rate',
    /is -1; accepted: a number above 0/,
  ],
  [
    'a metric of the other task',
    '/job',
    tuned({ template, task: { type: 'cloze', metric: 'accuracy' } }),
    'method.p_tuning.task.metric',
    /"accuracy"; accepted: "p_at_1" or "p_at_10" or "mrr"/,
  ],
  [
    'integrations',
    '/job',
    { ...job, integrations: [{ type: 'wandb' }] },
    'integrations',
    /integrations is a list of 1/,
  ],
  ['no body', '/job', undefined, null, /the body is missing; accepted: \{model, training_file/],
  ['a list as body', '/job', [], null, /the body is a list of 0/],
  ['a prompt that is a number', '/completion', { model: 'm', prompt: 3 }, 'prompt', /prompt is 3; accepted: a string/],
  ['token ids as prompt', '/completion', { model: 'm', prompt: [1, 2] }, 'prompt', /prompt is a list of 2; accepted/],
  [
    'a field that is no text',
    '/completion',
    { model: 'm', prompt: { a: null } },
    'prompt.a',
    /prompt.a is null; accepted: a string of at most 65536 characters or a number or true or false\.$/,
  ],
  [
    'a mixed list',
    '/completion',
    { model: 'm', prompt: ['a', 1] },
    'prompt[1]',
    /prompt\[1\] is 1; accepted: a string/,
  ],
];

for (const [name, url, body, param, message] of refused) {
  test(`${name} is refused`, async () => {
    const response = await app.inject({
      method: 'POST',
      url,
      ...(body === undefined ? {} : { payload: body as object }),
    });
    assert.equal(response.statusCode, 400);
    assert.equal(response.json().param, param);
    assert.match(response.json().message, message);
  });
}

test('a query is text: limits by pattern, unknown names refused, metadata by name', async () => {
  const get = async (url: string) => (await app.inject(url)).json();
  assert.match((await get('/jobs?limit=0')).message, /^limit is "0"; accepted: a whole number from 1 to 100\.$/);
  assert.match((await get('/jobs?limit=1e1')).message, /^limit is "1e1"/);
  assert.match((await get('/jobs?limit=5&limit=6')).message, /^limit is a list of 2/);
  assert.match(
    (await get('/jobs?lim=5')).message,
    /^lim is not a known field; accepted: after, limit, metadata\[name\]\.$/,
  );
  assert.deepEqual(await get('/jobs?limit=100&metadata[a]=b'), { limit: '100', 'metadata[a]': 'b' });
});

test('a body with everything passes unchanged', async () => {
  const body = {
    ...tuned({
      template,
      encoder: { type: 'lstm', layers: 2, dropout: 0 },
      hyperparameters: { learning_rate: 'auto' },
    }),
    ...{
      validation_file: null,
      test_file: 'file-2',
      suffix: 'a.b-c_d',
      seed: null,
      metadata: null,
      integrations: null,
    },
  };
  const response = await app.inject({ method: 'POST', url: '/job', payload: body });
  assert.deepEqual(response.json(), body);
});

function pairs(count: number): Record<string, string> {
  return Object.fromEntries(Array.from({ length: count }, (_, index) => [`name${index}`, 'x']));
}
