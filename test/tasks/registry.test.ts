import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type CompiledTask, compileTask, type TaskContext } from '../../src/tasks/registry.ts';
import type { ClassificationTask, Task } from '../../src/tasks/schema.ts';
import type { TokenizerName } from '../fixtures/tokenizers/build.ts';
import { openTokenizer } from '../fixtures/tokenizers/open.ts';

async function context(name: TokenizerName, more: Partial<TaskContext> = {}): Promise<TaskContext> {
  const tokenizer = await openTokenizer(name);
  return { tokenizer, vocabularySize: tokenizer.vocabularySize, targetAfterSpace: true, ...more };
}

/** Tokens of a candidate with their weights. */
function tokensOf({ candidates }: CompiledTask, { tokenizer }: TaskContext, index: number): [string, number][] {
  const { width, ids, weights } = candidates;
  const places = Array.from({ length: width }, (_, k) => index * width + k);
  return places.filter((at) => weights[at] !== 0).map((at) => [tokenizer.token(ids[at]!), weights[at]!]);
}

test('a cloze task chooses among the whole vocabulary', async () => {
  const gpt2 = await context('gpt2');
  const task = compileTask({ type: 'cloze' }, gpt2);
  assert.equal(task.candidates.count, gpt2.tokenizer.vocabularySize);
  const label = task.labelOf('Paris');
  assert.ok('index' in label);
  assert.equal(gpt2.tokenizer.token(label.index), 'ĠParis');
  assert.equal(task.candidates.names[label.index], 'Paris');
  assert.equal(task.candidates.ids[label.index], label.index);
  assert.ok(task.candidates.weights.every((weight) => weight === 1));
  // Logits may be padded beyond the tokenizer, or end before it.
  const padded = compileTask({ type: 'cloze' }, { ...gpt2, vocabularySize: 10_000 });
  assert.equal(padded.candidates.count, gpt2.tokenizer.vocabularySize);
  assert.equal(compileTask({ type: 'cloze' }, { ...gpt2, vocabularySize: 300 }).candidates.count, 300);
});

test('a target is encoded as it stands in its place', async () => {
  const glued = await context('roberta', { targetAfterSpace: false });
  assert.ok('refused' in compileTask({ type: 'cloze' }, glued).labelOf('Paris'));
  const spaced = await context('roberta');
  assert.ok('index' in compileTask({ type: 'cloze' }, spaced).labelOf('  Paris '));
});

test('a target that is not one known token is refused with its tokens', async () => {
  const gpt2 = compileTask({ type: 'cloze' }, await context('gpt2'));
  const label = gpt2.labelOf('Yaounde');
  assert.ok('refused' in label && label.refused === 'not_one_token');
  assert.match(label.message, /^the target "Yaounde" is \d tokens \(ĠY, a, o, u, n/);
  const bert = compileTask({ type: 'cloze' }, await context('wordpiece'));
  const unknown = bert.labelOf('東');
  assert.ok(
    'refused' in unknown && /is the unknown token \[UNK\]; a word that is one known token/.test(unknown.message),
  );
  const empty = bert.labelOf('');
  assert.ok('refused' in empty && /is no token/.test(empty.message));
  assert.equal(gpt2.dropsRefused, false);
  assert.equal(compileTask({ type: 'cloze', drop_multi_token: true }, await context('gpt2')).dropsRefused, true);
});

test('allowed words are those that are one token, each once; the others are counted', async () => {
  const bert = await context('wordpiece');
  const words = ['Paris', 'Yaounde', 'London', 'paris', '東'];
  for (const task of [
    compileTask({ type: 'cloze', allowed_words: words }, bert),
    compileTask({ type: 'cloze', allowed_words_file: 'file-1' }, { ...bert, allowedWords: words }),
  ]) {
    assert.deepEqual(task.candidates.names, ['Paris', 'London']);
    assert.deepEqual(
      Array.from(task.candidates.ids, (id) => bert.tokenizer.token(id)),
      ['paris', 'london'],
    );
    assert.equal(task.wordsLeftOut, 2);
    assert.deepEqual(task.labelOf('LONDON'), { index: 1 });
    const other = task.labelOf('Berlin');
    assert.ok('refused' in other && other.refused === 'not_allowed');
    assert.match(other.message, /^the target "Berlin" is not among the allowed words; drop_multi_token/);
  }
  assert.throws(() => compileTask({ type: 'cloze', allowed_words: ['Paris', 'Yaounde'] }, bert), {
    code: 'target_not_one_token',
    message: /Only 1 of the 2 allowed words/,
  });
});

test('labels have the mean of their words, each one token', async () => {
  const gpt2 = await context('gpt2');
  const task = compileTask(
    { type: 'classification', labels: { good: ['good', 'great', 'good'], bad: 'bad', '1': 'No' } },
    gpt2,
  );
  const { names, width, count } = task.candidates;
  assert.deepEqual([count, width], [3, 2]);
  assert.deepEqual([...names].sort(), ['1', 'bad', 'good']);
  assert.deepEqual(tokensOf(task, gpt2, names.indexOf('good')), [
    ['Ġgood', 0.5],
    ['Ġgreat', 0.5],
  ]);
  assert.deepEqual(tokensOf(task, gpt2, names.indexOf('bad')), [['Ġbad', 1]]);
  assert.deepEqual(task.labelOf('1'), { index: names.indexOf('1') });
  const unknown = task.labelOf('neutral');
  assert.ok('refused' in unknown && unknown.refused === 'unknown_label');
  assert.match(unknown.message, /the label "neutral" is not one of "1", "good", "bad"/);
});

const refusals: [string, ClassificationTask['labels'], string, RegExp][] = [
  ['two labels with one token', { yes: 'Yes', ja: 'yes' }, 'verbalizer_conflict', /"Yes" of label "yes" and "yes" of/],
  [
    'a verbalizer of several tokens',
    { a: 'Yes', b: 'perhaps' },
    'target_not_one_token',
    /"perhaps" of label "b" is \d tokens \(p, ##e, ##r/,
  ],
  [
    'an unknown verbalizer',
    { a: 'Yes', b: '東' },
    'target_not_one_token',
    /"東" of label "b" is the unknown token \[UNK\]/,
  ],
  ['a single label', { a: 'Yes' }, 'invalid_request', /has 1 labels; at least 2/],
];
for (const [what, labels, code, message] of refusals) {
  test(`${what} is refused`, async () => {
    const bert = await context('wordpiece');
    assert.throws(() => compileTask({ type: 'classification', labels }, bert), {
      code,
      param: 'task.labels',
      message,
    });
  });
}

test('words that one label has twice in an uncased vocabulary count once', async () => {
  const bert = await context('wordpiece');
  const task = compileTask({ type: 'classification', labels: { a: ['Yes', 'yes'], b: 'no' } }, bert);
  assert.equal(task.candidates.width, 1);
  assert.deepEqual(tokensOf(task, bert, 0), [['yes', 1]]);
});

test('both ways of naming allowed words, or tokens beyond the logits, are refused', async () => {
  const bert = await context('wordpiece');
  const both: Task = { type: 'cloze', allowed_words: ['a', 'b'], allowed_words_file: 'file-1' };
  assert.throws(() => compileTask(both, bert), { code: 'invalid_request' });
  assert.throws(
    () => compileTask({ type: 'cloze', allowed_words: ['the', 'Paris'] }, { ...bert, vocabularySize: 6 }),
    /The token paris has the id \d+, but this LM scores only 6 tokens/,
  );
});
