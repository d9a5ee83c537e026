import assert from 'node:assert/strict';
import { Readable } from 'node:stream';
import { test } from 'node:test';
import {
  checkDataset,
  type DatasetOptions,
  loadDataset,
  planDataset,
  promptCompletionTemplate,
} from '../../src/data/dataset.ts';
import type { Task, Template } from '../../src/tasks/schema.ts';
import type { TokenizerName } from '../fixtures/tokenizers/build.ts';
import { openTokenizer, spelled } from '../fixtures/tokenizers/open.ts';

const capital: Template = [
  { virtual: 3, init: 'The capital of' },
  { field: 'x', shortenable: true },
  { virtual: 2, init: 'is' },
  { target: 'y' },
];

async function options(
  name: TokenizerName,
  template: Template,
  task: Task = { type: 'cloze' },
  maxLength = 32,
): Promise<DatasetOptions> {
  const tokenizer = await openTokenizer(name);
  const kind = name === 'gpt2' || name === 'llama' ? 'causal' : 'masked';
  return { model: { kind, maxLength, vocabularySize: tokenizer.vocabularySize }, tokenizer, template, task };
}

const source = (...rows: unknown[]): Readable =>
  Readable.from([Buffer.from(rows.map((row) => (typeof row === 'string' ? row : JSON.stringify(row))).join('\n'))]);

test('a file is checked and loaded to the same counts; the manual prompt comes with it', async () => {
  const plan = planDataset(await options('gpt2', capital, { type: 'cloze' }, 8));
  const rows = [
    { x: 'France', y: 'Paris' },
    { x: 'the great city country of Germany', y: 'Berlin' },
  ];
  const checked = await checkDataset(source(...rows), plan);
  assert.deepEqual(checked, { used: 2, shortened: 1, dropped: 0, longest: 8, tokens: 14, mean: 7 });
  const { rows: loaded, manual: loadedManual, ...summary } = await loadDataset(source(...rows), plan);
  const [rendered, manual] = [[...loaded], [...loadedManual!]];
  assert.deepEqual(summary, checked);
  const { tokenizer } = plan.render;
  assert.deepEqual(
    rendered.map(({ label }) => plan.task.candidates.names[label]),
    ['Paris', 'Berlin'],
  );
  assert.deepEqual(
    manual.map(({ ids }) => spelled(tokenizer, ids)),
    ['The Ġcapital Ġof ĠFrance Ġis', 'The Ġcapital Ġof Ġthe Ġgreat Ġcity Ġcountry Ġis'],
  );
  assert.deepEqual(
    manual.map(({ label }) => label),
    rendered.map(({ label }) => label),
  );
  assert.ok(manual.every(({ slots }) => slots.every((slot) => slot === -1)));
});

test('rows of one shape share their slots', async () => {
  const plan = planDataset(await options('gpt2', capital));
  const rows = [...(await loadDataset(source({ x: 'France', y: 'Paris' }, { x: 'England', y: 'London' }), plan)).rows];
  assert.notDeepEqual(rows[0]!.ids, rows[1]!.ids);
  assert.equal(rows[0]!.slots, rows[1]!.slots);
});

test('the first row that cannot be used is refused with its line and field', async () => {
  const good = { x: 'France', y: 'Paris' };
  const plan = planDataset(await options('gpt2', capital));
  const refused = async (row: unknown, code: string, message: RegExp) => {
    await assert.rejects(checkDataset(source(good, '', row, { x: 1 }), plan), { code, message });
    await assert.rejects(loadDataset(source(good, '', row, { x: 1 }), plan), { code, message });
  };
  await refused({ y: 'Paris' }, 'invalid_data', /^Line 3: Field "x" is missing \(found: y\)/);
  await refused({ x: 'France' }, 'invalid_data', /^Line 3: Field "y" is missing/);
  await refused({ x: {}, y: 'Paris' }, 'invalid_data', /^Line 3: Field "x" is an object/);
  await refused('{"x": }', 'invalid_json', /^Line 3 is not JSON/);
  await refused(
    { x: 'Cameroon', y: 'Yaounde' },
    'target_not_one_token',
    /^Line 3: Field "y": the target "Yaounde" is \d tokens \(ĠY, a, o, u.*one known token.*drop_multi_token/,
  );
  await assert.rejects(checkDataset(source(''), plan), { code: 'empty_file' });
});

test('an unknown label is refused with the labels there are', async () => {
  const task: Task = { type: 'classification', labels: { true: 'Yes', false: 'No' } };
  const template: Template = [{ field: 'q' }, { virtual: 2 }, { target: 'label' }];
  const plan = planDataset(await options('wordpiece', template, task));
  assert.equal((await checkDataset(source({ q: 'is it', label: true }, { q: 1, label: 'false' }), plan)).used, 2);
  await assert.rejects(checkDataset(source({ q: 'is it', label: true }, { q: 'a', label: 'perhaps' }), plan), {
    code: 'unknown_label',
    param: 'label',
    details: { line: 2, field: 'label' },
    message: 'Line 2: Field "label": the label "perhaps" is not one of "true", "false".',
  });
});

test('rows whose target is no candidate are dropped and counted where the task says so', async () => {
  const task: Task = { type: 'cloze', allowed_words: ['Paris', 'London'], drop_multi_token: true };
  const plan = planDataset(await options('gpt2', capital, task));
  const rows = [
    { x: 'Cameroon', y: 'Yaounde' },
    { x: 'Germany', y: 'Berlin' },
    { x: 'France', y: 'Paris' },
  ];
  const { rows: rendered, manual, used, dropped } = await loadDataset(source(...rows), plan);
  assert.deepEqual([rendered.length, manual!.length, used, dropped], [1, 1, 1, 2]);
  await assert.rejects(checkDataset(source(rows[0]), plan), { code: 'empty_file', message: /all 1 were dropped/ });
  const strict = planDataset(await options('gpt2', capital, { ...task, drop_multi_token: false }));
  await assert.rejects(checkDataset(source(rows[1]), strict), {
    code: 'invalid_data',
    message: /^Line 1: Field "y": the target "Berlin" is not among the allowed words/,
  });
});

test("rows in OpenAI's prompt and completion form need no template", async () => {
  const plan = planDataset(await options('gpt2', promptCompletionTemplate));
  const { rows } = await loadDataset(source({ prompt: 'The capital of France is', completion: ' Paris' }), plan);
  const { tokenizer } = plan.render;
  assert.equal(spelled(tokenizer, rows.at(0)!.ids.slice(3, -3)), 'ĠThe Ġcapital Ġof ĠFrance Ġis');
  assert.equal(tokenizer.token(rows.at(0)!.label), 'ĠParis');
  const chat = { messages: [{ role: 'user', content: 'hi' }] };
  await assert.rejects(checkDataset(source(chat), plan), {
    code: 'invalid_data',
    param: 'messages',
    message: 'Line 1: rows with "messages" are not accepted; give each row the fields "prompt", "completion".',
  });
});

test('template and task are checked before any row', async () => {
  const bad = await options('gpt2', [...capital, { text: '.' }]);
  assert.throws(() => planDataset(bad), { code: 'invalid_template' });
  const long = await options('gpt2', [{ virtual: 40 }, { target: 'y' }]);
  assert.throws(() => planDataset(long), { code: 'template_too_long' });
  const same = await options('wordpiece', capital, { type: 'classification', labels: { a: 'yes', b: 'Yes' } });
  assert.throws(() => planDataset(same), { code: 'verbalizer_conflict' });
});
