/** Requests with anything anywhere: never a 5xx, always the form of all errors, and in time. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import fc from 'fast-check';
import { capitals, startTestService, type TestService, template } from './service.ts';

let service: TestService;
let training: string;

before(async () => {
  service = await startTestService({ redisUrl: 'redis://127.0.0.1:1' });
  await service.registerDemo('demo-bert');
  await service.registerDemo('demo-gpt2');
  training = await service.upload(capitals);
});

after(() => service?.close());

const word = fc.constantFrom(
  'Paris',
  'Kuala Lumpur',
  '✈',
  '',
  ' ',
  '[MASK]',
  '[SEP]',
  '\u0000',
  '\ud800',
  'x\ny',
  '__proto__',
  'auto',
  'a'.repeat(300),
);
const odd = fc.oneof(
  word,
  fc.constantFrom('sub_label', 'constructor', '../..'),
  fc.integer(),
  fc.double(),
  fc.constantFrom(null, true, [], {}),
);
const field = fc.constantFrom('sub_label', 'obj_label', 'absent', 'constructor', '');
const segment = fc.oneof(
  fc.record({ virtual: fc.integer({ min: 0, max: 40 }), init: word }, { requiredKeys: ['virtual'] }),
  fc.record({ field, shortenable: fc.boolean(), join: fc.constantFrom('space', 'none') }, { requiredKeys: ['field'] }),
  fc.record({ text: word }),
  fc.record({ target: field }),
);
const labels = fc.dictionary(word, fc.oneof(word, fc.array(word, { maxLength: 3 })));
const task = fc.oneof(
  fc.record(
    { type: fc.constant('cloze'), allowed_words: fc.array(word), drop_multi_token: fc.boolean() },
    { requiredKeys: ['type'] },
  ),
  fc.record({ type: fc.constant('classification'), labels }),
);
const job = fc.record({
  model: fc.constantFrom('demo-bert', 'demo-gpt2'),
  seed: fc.constantFrom(0, 34, null),
  method: fc.record({
    type: fc.constant('p_tuning'),
    p_tuning: fc.record(
      {
        template: fc.oneof(fc.constant(template), fc.array(segment, { minLength: 1, maxLength: 6 })),
        task,
        hyperparameters: fc.dictionary(fc.constantFrom('preset', 'batch_size', 'max_steps', 'gamma', 'lr'), odd),
      },
      { requiredKeys: ['template'] },
    ),
  }),
});

test('500 jobs, valid and not, some with one value replaced by another', { timeout: 60_000 }, async () => {
  const seen = new Set<number>();
  await fc.assert(
    fc.asyncProperty(job, fc.option(fc.tuple(fc.nat(), odd), { freq: 1 }), async (body, replacement) => {
      const request = { ...structuredClone(body), training_file: training };
      if (replacement !== null) replaceOne(request, ...replacement);
      const response = await service.app.inject({ method: 'POST', url: '/v1/fine_tuning/validate', payload: request });
      seen.add(response.statusCode);
      assert.ok([200, 400, 404].includes(response.statusCode), response.body);
      if (response.statusCode === 200) return;
      const { error } = response.json();
      assert.deepEqual(Object.keys(error), ['message', 'type', 'param', 'code']);
      assert.ok(error.message.length > 10 && error.message.length < 2000, error.message);
    }),
    { numRuns: 500, endOnFailure: true },
  );
  assert.ok(seen.has(200) && seen.has(400), 'the generator makes both kinds');
});

test('300 ids and queries, whatever they hold, are 200, 400 or 404 and reach no other file', async () => {
  const text = fc.string({ unit: 'binary', maxLength: 200 }).map((value) => encodeURIComponent(value));
  const path = fc.constantFrom('/v1/files/', '/v1/models/', '/v1/files?after=', '/v1/files?', '/v1/models/..%2f');
  await fc.assert(
    fc.asyncProperty(fc.constantFrom('GET', 'DELETE'), path, text, async (method, start, end) => {
      const response = await service.app.inject({ method: method as 'GET', url: `${start}${end}` });
      assert.ok([200, 400, 404].includes(response.statusCode), response.body);
    }),
    { numRuns: 300, endOnFailure: true },
  );
  assert.equal((await service.models.list()).length, 2);
});

/** Replaces the nth value, counted through the whole object. */
function replaceOne(root: object, n: number, value: unknown): void {
  const places: [Record<string, unknown>, string][] = [];
  const visit = (node: object) => {
    for (const [key, inner] of Object.entries(node)) {
      places.push([node as Record<string, unknown>, key]);
      if (typeof inner === 'object' && inner !== null) visit(inner);
    }
  };
  visit(root);
  const [parent, key] = places[n % places.length]!;
  parent[key] = value;
}
