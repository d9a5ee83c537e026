import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { Value } from 'typebox/value';
import { methodObject } from '../../src/api/job-json.ts';
import type { PtunedError } from '../../src/errors.ts';
import { resolveMethod } from '../../src/jobs/defaults.ts';
import { describeChoices } from '../../src/jobs/describe.ts';
import type { Hyperparameters, ResolvedHyperparameters } from '../../src/jobs/hyperparameters.ts';
import { Method } from '../../src/jobs/method.ts';
import type { PTuning, ResolvedPTuning } from '../../src/jobs/methods/p-tuning.ts';
import type { MethodContext } from '../../src/jobs/methods/record.ts';
import { countStepsPerEpoch, countTotalSteps } from '../../src/jobs/steps.ts';
import type { Template } from '../../src/tasks/schema.ts';

const template: PTuning['template'] = [{ virtual: 3 }, { field: 'x' }, { virtual: 3 }, { target: 'y' }];
const lama: MethodContext = { trainRows: 750, devRows: 190, width: 768 };
const resolve = (given: Partial<PTuning> = {}, context: Partial<MethodContext> = {}) =>
  resolveMethod({ type: 'p_tuning', p_tuning: { template, ...given } }, { ...lama, ...context }) as ResolvedPTuning;
const chosen = (hyperparameters: Hyperparameters, context: Partial<MethodContext> = {}): ResolvedHyperparameters =>
  resolve({ hyperparameters }, context).hyperparameters;

test('the lama preset is what the paper published', () => {
  assert.deepEqual(chosen({ preset: 'lama' }), {
    preset: 'lama',
    learning_rate: 1e-5,
    n_epochs: 100,
    batch_size: 8,
    max_steps: null,
    optimizer: 'adam',
    weight_decay: 5e-4,
    schedule: 'exponential',
    gamma: 0.98,
    warmup_ratio: 0,
    gradient_clip: null,
    evaluate_every: 'epoch',
    patience: 20,
    drop_last: true,
    group_by_length: false,
  });
});

test('the few-shot preset is what the paper published', () => {
  assert.deepEqual(chosen({ preset: 'few-shot' }, { trainRows: 32, devRows: 32 }), {
    preset: 'few-shot',
    learning_rate: 1e-4,
    n_epochs: 125,
    batch_size: 16,
    max_steps: 250,
    optimizer: 'adamw',
    weight_decay: 0,
    schedule: 'linear',
    gamma: 1,
    warmup_ratio: 0,
    gradient_clip: 1,
    evaluate_every: 20,
    patience: 10,
    drop_last: false,
    group_by_length: false,
  });
});

test('auto on a LAMA relation: batches of 16, ten epochs, evaluated at each', () => {
  const found = chosen({});
  assert.equal(found.preset, 'auto');
  assert.equal(found.learning_rate, 1e-3);
  assert.equal(found.batch_size, 16);
  assert.equal(found.evaluate_every, 'epoch');
  assert.equal(countTotalSteps(found, 750), 470);
});

test('auto on data of any size: enough steps, at least five epochs or the limit, evaluated often but not too often', () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 300_000 }), fc.integer({ min: 1, max: 30_000 }), (trainRows, devRows) => {
      const found = chosen({}, { trainRows, devRows });
      const perEpoch = countStepsPerEpoch(trainRows, found.batch_size, found.drop_last);
      const total = countTotalSteps(found, trainRows);
      assert.ok(found.batch_size <= trainRows);
      assert.ok(total >= 450 && total <= 6000, `${total} steps`);
      assert.ok(found.n_epochs >= 5);
      if (trainRows <= 1000) assert.ok(total <= 600, `${total} steps`);
      const interval = found.evaluate_every === 'epoch' ? perEpoch : found.evaluate_every;
      const devBatches = Math.ceil(devRows / found.batch_size);
      assert.ok(interval >= 20 && interval >= Math.min(devBatches, total / 8), `every ${interval}`);
      assert.ok(interval <= Math.max(60, Math.min(devBatches, Math.ceil(total / 8))), `every ${interval}`);
      assert.ok(found.patience >= 5 && found.patience * interval >= 250);
      assert.ok(found.gamma ** found.n_epochs >= 0.09);
    }),
    { seed: 1, numRuns: 500 },
  );
});

test('what the user gives wins; auto leaves it to the preset', () => {
  const found = chosen({ learning_rate: 3e-4, batch_size: 'auto', n_epochs: 3, gradient_clip: 2, patience: 9 });
  assert.equal(found.learning_rate, 3e-4);
  assert.equal(found.batch_size, 16);
  assert.equal(countTotalSteps(found, 750), 141);
  assert.equal(found.gradient_clip, 2);
  assert.equal(found.patience, 9);
  assert.equal(chosen({ preset: 'few-shot', gradient_clip: null }).gradient_clip, null);
});

test('a length the user gives is the whole length', () => {
  assert.equal(countTotalSteps(chosen({ preset: 'few-shot', n_epochs: 10 }), 750), 470);
  assert.equal(countTotalSteps(chosen({ max_steps: 5000 }), 750), 5000);
  assert.equal(countTotalSteps(chosen({ preset: 'lama', max_steps: 37 }), 750), 37);
  assert.equal(countTotalSteps(chosen({ n_epochs: 2, max_steps: 37 }), 750), 37);
  assert.equal(countTotalSteps(chosen({ n_epochs: 2, max_steps: 370 }), 750), 94);
});

test('gamma belongs to the exponential schedule only', () => {
  assert.equal(chosen({ schedule: 'constant' }).gamma, 1);
  assert.equal(chosen({ preset: 'few-shot', schedule: 'exponential' }).gamma, 0.98);
});

test('defaults of encoder and task', () => {
  const found = resolve();
  assert.deepEqual(found.encoder, { type: 'lstm', layers: 2 });
  assert.deepEqual(found.task, { type: 'cloze', metric: 'p_at_1' });
  const labels = { yes: 'Yes', no: 'No' };
  assert.equal(resolve({ task: { type: 'classification', labels } }).task.metric, 'accuracy');
  assert.equal(resolve({ task: { type: 'cloze', metric: 'mrr' } }).task.metric, 'mrr');
});

test('supervised is p_tuning with defaults over prompt and completion', () => {
  const found = resolveMethod({ type: 'supervised', supervised: { hyperparameters: { batch_size: 4 } } }, lama);
  assert.equal(found.type, 'p_tuning');
  assert.equal(found.hyperparameters.batch_size, 4);
  assert.deepEqual(found.template.at(-1), { target: 'completion' });
  assert.deepEqual(resolveMethod({ type: 'supervised' }, lama).hyperparameters, chosen({}));
});

test('without a validation file a fifth of the rows is dev', () => {
  assert.deepEqual(chosen({}, { trainRows: 1000, devRows: null }), chosen({}, { trainRows: 800, devRows: 200 }));
  assert.throws(
    () => chosen({}, { trainRows: 1, devRows: null }),
    (error: PtunedError) => error.param === 'training_file',
  );
});

const refused: [string, Partial<PTuning>, Partial<MethodContext>, string, RegExp][] = [
  [
    'gamma without exponential',
    { hyperparameters: { gamma: 0.9, schedule: 'linear' } },
    {},
    'hyperparameters.gamma',
    /linear/,
  ],
  [
    'drop_last over few rows',
    { hyperparameters: { drop_last: true, batch_size: 64 } },
    { trainRows: 63 },
    'hyperparameters.drop_last',
    /64.*63/,
  ],
  ['layers of an mlp', { encoder: { type: 'mlp', layers: 2 } }, {}, 'encoder.layers', /mlp/],
  ['an lstm of odd width', {}, { width: 33 }, 'encoder.type', /33/],
  [
    'words given twice',
    { task: { type: 'cloze', allowed_words: ['a', 'b'], allowed_words_file: 'file-1' } },
    {},
    'task.allowed_words_file',
    /not both/,
  ],
];
for (const [what, given, context, param, message] of refused) {
  test(`refused with its field: ${what}`, () => {
    assert.throws(
      () => resolve(given, context),
      (error: PtunedError) => {
        assert.equal(error.code, 'invalid_request');
        assert.equal(error.param, `method.p_tuning.${param}`);
        assert.match(error.message, message);
        return true;
      },
    );
  });
}

test('the choices in one sentence', () => {
  assert.equal(
    describeChoices(chosen({ warmup_ratio: 0.1 }), 750),
    'Preset auto on 750 rows: Adam at learning rate 0.001 (times 0.98 each epoch), warm-up over 10 % of the steps, ' +
      'weight decay 0.0005, no gradient clipping, batches of 16, at most 470 steps (47 an epoch), dev scored every ' +
      'epoch, stop after 6 evaluations without a gain.',
  );
});

test('each method resolves its own fields, and the rate that fits what is trained', () => {
  const prefix: Template = [{ field: 'x' }, { target: 'y' }];
  const methods: [Method, object, number | undefined][] = [
    [
      { type: 'p_tuning', p_tuning: { template, encoder: { type: 'embedding' } } },
      { encoder: { type: 'embedding' } },
      1e-2,
    ],
    [{ type: 'prompt_tuning', prompt_tuning: { template } }, { initialization: 'vocabulary' }, 1e-2],
    [
      { type: 'prefix_tuning', prefix_tuning: { template: prefix } },
      { virtual_tokens: 10, initialization: 'vocabulary', encoder: { type: 'embedding' } },
      3e-2,
    ],
    [
      {
        type: 'prefix_tuning',
        prefix_tuning: { template: prefix, init: 'a', encoder: { type: 'projection', hidden_width: 5 } },
      },
      { virtual_tokens: 10, init: 'a', initialization: 'vocabulary', encoder: { type: 'projection', hidden_width: 5 } },
      1e-3,
    ],
    [{ type: 'autoprompt', autoprompt: { template } }, { candidates: 10, search_rows: 128 }, undefined],
  ];
  for (const [method, own, rate] of methods) {
    const { hyperparameters, template: _template, task, type, ...found } = resolveMethod(method, lama);
    assert.deepEqual([type, found, task], [method.type, own, { type: 'cloze', metric: 'p_at_1' }]);
    assert.equal('learning_rate' in hyperparameters ? hyperparameters.learning_rate : undefined, rate, type);
  }
});

test('a resolved method, as a job tells it, can be sent again', () => {
  const prefix: Template = [{ field: 'x' }, { target: 'y' }];
  const methods: Method[] = [
    ...(['lstm', 'mlp', 'embedding'] as const).map(
      (type): Method => ({ type: 'p_tuning', p_tuning: { template, encoder: { type } } }),
    ),
    { type: 'prompt_tuning', prompt_tuning: { template } },
    { type: 'prefix_tuning', prefix_tuning: { template: prefix, encoder: { type: 'projection' } } },
    { type: 'autoprompt', autoprompt: { template, hyperparameters: { n_epochs: 2 } } },
    { type: 'supervised' },
  ];
  for (const method of methods) {
    const resolved = resolveMethod(method, lama);
    const again = methodObject(resolved);
    assert.deepEqual(Value.Errors(Method, again), [], method.type);
    assert.deepEqual(resolveMethod(again as Method, lama), resolved);
  }
});

test('a search is as long as it is told, and has no optimizer', () => {
  const search = (hyperparameters: object) =>
    resolveMethod({ type: 'autoprompt', autoprompt: { template, hyperparameters } }, lama).hyperparameters;
  const rest = {
    preset: 'auto',
    batch_size: 16,
    evaluate_every: 10,
    patience: 5,
    drop_last: false,
    group_by_length: false,
  };
  assert.deepEqual(search({}), { ...rest, n_epochs: 3, max_steps: 100 });
  assert.deepEqual(search({ max_steps: 7 }), { ...rest, n_epochs: 1, max_steps: 7 });
  assert.deepEqual(search({ n_epochs: 2 }), { ...rest, n_epochs: 2, max_steps: null });
  assert.match(describeChoices(search({}), 750), /^Preset auto on 750 rows: batches of 16, at most 100 steps/);
});

test('hidden_width belongs to a projection', () => {
  const prefix_tuning = { template, encoder: { hidden_width: 4 } };
  assert.throws(() => resolveMethod({ type: 'prefix_tuning', prefix_tuning }, lama), {
    code: 'invalid_request',
    param: 'method.prefix_tuning.encoder.hidden_width',
  });
});
