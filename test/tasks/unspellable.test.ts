/** LMs whose vocabulary lacks characters and has no unknown token: what cannot be spelled is refused where it stands. */
import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { checkDataset, planDataset } from '../../src/data/dataset.ts';
import { allowedWords, verbalizers } from '../../src/tasks/candidates.ts';
import type { Task, Template } from '../../src/tasks/schema.ts';
import { loadTokenizer } from '../../src/tokenizer/load.ts';
import { writeTokenizer } from '../fixtures/tokenizers/build.ts';

const directory = await mkdtemp(join(tmpdir(), 'ptuned-tokenizer-'));
after(() => rm(directory, { recursive: true, force: true }));
writeTokenizer('wordpiece', directory);
const path = join(directory, 'tokenizer.json');
const json = JSON.parse(await readFile(path, 'utf8'));
delete json.model.vocab['[UNK]'];
json.added_tokens = json.added_tokens.filter((token: { content: string }) => token.content !== '[UNK]');
await writeFile(path, JSON.stringify(json));
const tokenizer = await loadTokenizer(directory);

const usual: Template = [{ virtual: 1 }, { field: 'x' }, { target: 'y' }];

function plan(template: Template, task: Task = { type: 'cloze' }) {
  const model = { kind: 'masked', maxLength: 32, vocabularySize: tokenizer.vocabularySize } as const;
  return planDataset({ model, tokenizer, template, task });
}

async function* rows(...values: object[]) {
  for (const value of values) yield Buffer.from(`${JSON.stringify(value)}\n`);
}

test('a field names its line, a target its line and field', async () => {
  const good = { x: 'France', y: 'Paris' };
  assert.equal((await checkDataset(rows(good), plan(usual))).used, 1);
  await assert.rejects(checkDataset(rows(good, { ...good, x: '東京' }), plan(usual)), {
    code: 'invalid_data',
    message: /^Line 2: .*"東京"/,
  });
  await assert.rejects(checkDataset(rows(good, good, { ...good, y: '東京' }), plan(usual)), {
    code: 'target_not_one_token',
    message: /^Line 3: Field "y": the target "東京" is no token/,
  });
  const dropping = plan(usual, { type: 'cloze', drop_multi_token: true });
  assert.equal((await checkDataset(rows(good, { ...good, y: '東京' }), dropping)).dropped, 1);
});

test('a text or the words of pseudo tokens are refused with the template', () => {
  const expected = { code: 'invalid_template', param: 'template', message: /"東京"/ };
  assert.throws(() => plan([...usual, { text: '東京' }]), expected);
  assert.throws(() => plan([{ virtual: 3, init: '東京' }, { target: 'y' }]), expected);
});

test('an allowed word is left out and counted, a verbalizer refused', () => {
  const { candidates, left } = allowedWords(['Paris', '東京', 'London'], tokenizer, true);
  assert.deepEqual([candidates.names, left], [['Paris', 'London'], 1]);
  assert.throws(() => verbalizers({ type: 'classification', labels: { a: '東京', b: 'no' } }, tokenizer, true), {
    code: 'target_not_one_token',
    message: /"東京" of label "a" is no token/,
  });
});

test('a text of spaces, and words that are only spaces, are refused rather than left out', () => {
  for (const [template, segment] of [
    [[...usual, { text: '  ' }], 4],
    [[{ virtual: 2, init: '\t' }, { target: 'y' }], 1],
  ] as [Template, number][]) {
    assert.throws(() => plan(template), { code: 'invalid_template', message: new RegExp(`segment ${segment}`) });
  }
  // Line breaks are kept, and spaces where they are asked for.
  plan([...usual, { text: '\n' }]);
  plan([...usual, { text: '  ', join: 'none' }, { field: 'z', join: 'none' }]);
});
