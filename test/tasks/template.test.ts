import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Template } from '../../src/tasks/schema.ts';
import {
  checkTemplate,
  initialTokens,
  inputFields,
  manualTemplate,
  targetAfterSpace,
  targetField,
  virtualTokens,
} from '../../src/tasks/template.ts';
import { openTokenizer } from '../fixtures/tokenizers/open.ts';

const lama: Template = [{ virtual: 3 }, { field: 'sub' }, { virtual: 2 }, { target: 'obj' }];

test('a template says what it holds', () => {
  checkTemplate(lama, { kind: 'causal' });
  checkTemplate(lama, { kind: 'masked' });
  checkTemplate([{ target: 'obj' }, { virtual: 1 }], { kind: 'masked' });
  assert.equal(virtualTokens(lama), 5);
  assert.equal(targetField(lama), 'obj');
  assert.deepEqual(inputFields([...lama, { field: 'sub' }, { field: 'b' }]), ['sub', 'b']);
});

test('a template that cannot be tuned is refused with what is accepted', () => {
  const refused = (template: Template, kind: 'masked' | 'causal', message: RegExp) =>
    assert.throws(() => checkTemplate(template, { kind }), {
      code: 'invalid_template',
      param: 'template',
      message,
    });
  refused([{ virtual: 1 }, { field: 'a' }], 'masked', /has 0 targets; exactly one/);
  refused([{ virtual: 1 }, { target: 'a' }, { target: 'b' }], 'masked', /has 2 targets/);
  refused([{ field: 'a' }, { target: 'b' }], 'causal', /no pseudo tokens; at least one {"virtual": n}/);
  refused([{ virtual: 1 }, { target: 'b' }, { text: '.' }], 'causal', /goes on behind its target \(1 segment\)/);
  refused([{ virtual: 1 }, { field: 'b' }, { target: 'b' }], 'causal', /shows the field "b" that it asks for/);
});

test('a target has a space before it unless it is glued, first, or on a new line', async () => {
  const gpt2 = await openTokenizer('gpt2');
  const llama = await openTokenizer('llama');
  const cases: [Template, boolean, boolean][] = [
    [lama, true, true],
    [[{ target: 'a' }, { virtual: 1 }], false, true],
    [[{ virtual: 1 }, { target: 'a', join: 'none' }], false, false],
    [[{ virtual: 1 }, { text: 'Answer:\n' }, { target: 'a' }], false, false],
    [[{ virtual: 1 }, { text: 'Answer: ' }, { target: 'a' }], true, true],
  ];
  for (const [template, expected, sentencepiece] of cases) {
    assert.equal(targetAfterSpace(template, gpt2), expected, JSON.stringify(template));
    assert.equal(targetAfterSpace(template, llama), sentencepiece, JSON.stringify(template));
  }
});

test('pseudo tokens start from the words of init, the last word on the last one', async () => {
  const tokenizer = await openTokenizer('gpt2');
  const id = (word: string) => {
    const ids = tokenizer.encode(word, { afterSpace: false });
    assert.equal(ids.length, 1, word);
    return ids[0]!;
  };
  const template: Template = [
    { virtual: 3, init: 'The capital of' },
    { field: 'x' },
    { virtual: 2, init: ' is' },
    { virtual: 1 },
    { target: 'y' },
  ];
  // "The" stands first, so it has no marker; "is" stands behind a field.
  assert.deepEqual(initialTokens(template, tokenizer), [id('The'), id(' capital'), id(' of'), null, id(' is'), null]);
  assert.equal(initialTokens(lama, tokenizer), null);
  assert.deepEqual(initialTokens([{ virtual: 1 }, { field: 'x' }, { virtual: 1, init: '.' }], tokenizer), [
    null,
    id('.'),
  ]);
});

test('more words than pseudo tokens are refused with their tokens', async () => {
  const tokenizer = await openTokenizer('gpt2');
  const template: Template = [{ field: 'x' }, { virtual: 2, init: 'is named after' }, { target: 'y' }];
  assert.throws(() => initialTokens(template, tokenizer), {
    code: 'invalid_template',
    message: /2 pseudo tokens from "is named after" \(segment 2\), which is 3 tokens of this LM \(Ġis Ġnamed Ġafter\)/,
  });
});

test('words of a prefix are refused as the field init, and segments are counted without it', async () => {
  const tokenizer = await openTokenizer('gpt2');
  const lm = { kind: 'causal' } as const;
  const template: Template = [{ text: 'In' }, { field: 'x' }, { target: 'y' }];
  const long = { virtual: 2, init: 'is named after' };
  assert.throws(() => initialTokens(template, tokenizer, long), {
    code: 'invalid_template',
    param: 'init',
    message: /^The prefix starts 2 pseudo tokens from "is named after", which is 3 tokens/,
  });
  assert.throws(() => checkTemplate(template, lm, { virtual: 2, init: '  ' }), {
    param: 'init',
    message: /^The prefix has only spaces in init; words/,
  });
  assert.throws(() => checkTemplate([{ text: ' ' }, ...template], lm, { virtual: 2, init: 'a' }), {
    param: 'template',
    message: /only spaces in text \(segment 1\)/,
  });
});

test('the manual prompt has the words in place of pseudo tokens, or is not there', () => {
  assert.equal(manualTemplate(lama), null);
  assert.deepEqual(
    manualTemplate([
      { virtual: 3 },
      { field: 'x', shortenable: true },
      { virtual: 2, init: 'is named after' },
      { target: 'y' },
      { text: '.' },
    ]),
    [{ field: 'x', shortenable: true }, { text: 'is named after' }, { target: 'y' }, { text: '.' }],
  );
});
