/** Rows of encoder-decoder LMs: what stands for the target in the text, and what the decoder is given. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { DecoderStart } from '../../src/models/manifest.ts';
import { compileTemplate, renderRow } from '../../src/tasks/render.ts';
import type { Template } from '../../src/tasks/schema.ts';
import { checkTemplate, manualTemplate } from '../../src/tasks/template.ts';
import { openTokenizer } from '../fixtures/tokenizers/open.ts';

const template: Template = [
  { virtual: 3, init: 'the capital of' },
  { field: 'country' },
  { virtual: 1 },
  { target: 'city' },
  { text: '.' },
];
const row = { country: 'France', city: 'Paris' };
const tokenizer = await openTokenizer('roberta');
const { special, prefix, suffix } = tokenizer;
const words = (text: string) => tokenizer.encode(text, { afterSpace: true });

const denoising: DecoderStart = { start: [special.eos!, special.bos!], mark: special.mask, repeats: true, ends: [] };
const sentinel = special.unk!;
const answering: DecoderStart = { start: [special.pad!], mark: sentinel, repeats: false, ends: [] };
const plain: DecoderStart = { start: [special.pad!], mark: null, repeats: false, ends: [] };

function render(decoder: DecoderStart, of: Template = template) {
  return renderRow(compileTemplate(of, { tokenizer, kind: 'seq2seq', decoder, maxLength: 64 }), row);
}

test('an LM with sentinels has one in the target’s place, and its decoder is given the same', () => {
  const { ids, slots, decoder, target } = render(answering);
  const at = prefix.length + 3 + words('France').length + 1;
  assert.equal(ids[at], sentinel);
  assert.deepEqual(ids.slice(-suffix.length), suffix);
  assert.deepEqual(slots.slice(prefix.length, prefix.length + 3), [0, 1, 2]);
  assert.ok(
    ids.every((id, i) => slots[i]! < 0 || (id !== sentinel && id !== special.pad)),
    'a placeholder is no mark',
  );
  assert.deepEqual([decoder, target], [[special.pad, sentinel], 1]);
});

test('a denoising LM’s decoder repeats the text before the mask, in the words that the pseudo tokens start from', () => {
  const { ids, decoder, target } = render(denoising);
  assert.ok(ids.includes(special.mask!));
  const told = [special.eos, special.bos, ...render(denoising, manualTemplate(template)!).decoder!.slice(2)];
  assert.deepEqual(decoder, told);
  const capital = tokenizer.encode('the capital of', { afterSpace: tokenizer.spaceAtStart });
  assert.deepEqual(decoder, [special.eos, special.bos, ...capital, ...words('France')]);
  assert.equal(target, decoder!.length - 1);
});

test('without sentinel and mask the answer begins with the target, which then ends the template', () => {
  const lm = { kind: 'seq2seq', decoder: plain } as const;
  assert.throws(() => checkTemplate(template, lm), {
    code: 'invalid_template',
    message: /goes on behind its target \(1 segment\).*no mask token or sentinel/,
  });
  checkTemplate(template, { kind: 'seq2seq', decoder: answering });
  const open = template.slice(0, -1);
  checkTemplate(open, lm);
  const { ids, decoder, target } = render(plain, open);
  assert.equal(ids.length, prefix.length + 3 + words('France').length + 1 + suffix.length);
  assert.deepEqual([decoder, target], [[special.pad], 0]);
});
