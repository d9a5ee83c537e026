import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { AskedLm } from '../../src/tasks/asking.ts';
import type { Row } from '../../src/tasks/place.ts';
import { compileTemplate, type RenderPlan, renderRow } from '../../src/tasks/render.ts';
import type { Template } from '../../src/tasks/schema.ts';
import { virtualTokens } from '../../src/tasks/template.ts';
import type { Tokenizer } from '../../src/tokenizer/tokenizer.ts';
import type { TokenizerName } from '../fixtures/tokenizers/build.ts';
import { openTokenizer } from '../fixtures/tokenizers/open.ts';

const kinds: Record<TokenizerName, AskedLm['kind']> = {
  wordpiece: 'masked',
  roberta: 'masked',
  'xlm-roberta': 'masked',
  gpt2: 'causal',
  llama: 'causal',
};

async function open(name: TokenizerName, template: Template, maxLength = 64): Promise<RenderPlan> {
  return compileTemplate(template, { tokenizer: await openTokenizer(name), kind: kinds[name], maxLength });
}

/** The row as the LM sees it: pseudo tokens as P0, P1 …, the position that is read in brackets. */
function show(plan: RenderPlan, row: Row): string {
  const { ids, slots, target } = renderRow(plan, row);
  return ids
    .map((id, i) => (slots[i]! >= 0 ? `P${slots[i]}` : plan.tokenizer.token(id)))
    .map((token, i) => (i === target ? `<${token}>` : token))
    .join(' ');
}

test('a masked LM reads its mask, between the special tokens of its tokenizer', async () => {
  const template: Template = [
    { virtual: 2 },
    { target: 'y' },
    { virtual: 1 },
    { field: 'x' },
    { virtual: 1 },
    { text: '.' },
  ];
  assert.equal(
    show(await open('wordpiece', template), { x: 'France', y: 'Paris' }),
    '[CLS] P0 P1 <[MASK]> P2 france P3 . [SEP]',
  );
  assert.equal(
    show(await open('roberta', template), { x: 'France', y: 'Paris' }),
    '<s> P0 P1 <<mask>> P2 ĠFrance P3 . </s>',
  );
});

test('what every row begins with ends at the first field, a token earlier where words may grow together', async () => {
  const lead = async (name: TokenizerName, template: Template) => {
    const { tokenizer, lead } = await open(name, template);
    return lead.ids.map((id, i) => (lead.slots[i]! >= 0 ? `P${lead.slots[i]}` : tokenizer.token(id))).join(' ');
  };
  const words: Template = [{ virtual: 2 }, { text: 'the city is' }, { virtual: 1 }, { field: 'x' }, { target: 'y' }];
  assert.equal(await lead('gpt2', words), 'P0 P1 Ġthe Ġcity Ġis P2');
  assert.equal(await lead('llama', words), '<s> P0 P1 ▁the ▁city ▁is P2');
  const grown: Template = [{ virtual: 1 }, { text: 'the city' }, { field: 'x' }, { virtual: 1 }, { target: 'y' }];
  assert.equal(await lead('gpt2', grown), 'P0 Ġthe');
  assert.equal(await lead('gpt2', [{ field: 'x' }, { virtual: 2 }, { target: 'y' }]), '');
  assert.equal(await lead('wordpiece', [{ virtual: 1 }, { target: 'y' }, { field: 'x' }]), '[CLS] P0');
});

test('a causal LM reads the last token before its target, which is not there', async () => {
  const template: Template = [{ virtual: 2 }, { field: 'x' }, { text: 'is' }, { target: 'y' }];
  assert.equal(show(await open('gpt2', template), { x: 'France', y: 'Paris' }), 'P0 P1 ĠFrance <Ġis>');
  assert.equal(show(await open('llama', template), { x: 'France', y: 'Paris' }), '<s> P0 P1 ▁France <▁is>');
  const ending: Template = [{ field: 'x' }, { virtual: 2 }, { target: 'y' }];
  assert.equal(show(await open('gpt2', ending), { x: 'the city' }), 'the Ġcity P0 <P1>');
});

test('the first word has a marker only where its tokenizer gives every text one', async () => {
  const template: Template = [{ text: 'The' }, { field: 'x' }, { virtual: 1 }, { target: 'y' }];
  assert.equal(show(await open('gpt2', template), { x: 'city' }), 'The Ġcity <P0>');
  assert.equal(show(await open('llama', template), { x: 'city' }), '<s> ▁The ▁city <P0>');
  assert.equal(show(await open('roberta', template), { x: 'city' }), '<s> ĠThe Ġcity P0 <<mask>> </s>');
  assert.equal(show(await open('xlm-roberta', template), { x: 'city' }), '<s> ▁The ▁city P0 <<mask>> </s>');
  // An empty field leaves its place to what follows.
  const empty: Template = [{ field: 'x' }, { text: 'The' }, { virtual: 1 }, { target: 'y' }];
  assert.equal(show(await open('gpt2', empty), { x: ' ' }), 'The <P0>');
});

test('segments are joined by a space, except closing punctuation, line breaks and join: none', async () => {
  const causal = async (template: Template, row: Row) =>
    show(await open('gpt2', [...template, { virtual: 1 }, { target: 'y' }]), row);
  assert.equal(await causal([{ field: 'a' }, { text: ', the city.' }], { a: 'Paris' }), 'Par is , Ġthe Ġcity . <P0>');
  assert.equal(
    await causal([{ field: 'a' }, { text: "'s capital" }], { a: 'the city' }),
    "the Ġcity ' s Ġcapital <P0>",
  );
  assert.equal(
    await causal([{ field: 'a' }, { text: ' is ' }, { field: 'b' }], { a: 'it', b: 'no' }),
    'it Ġis Ġno <P0>',
  );
  assert.equal(await causal([{ text: 'it\n' }, { field: 'a' }], { a: 'the' }), 'it Ċ the <P0>');
  assert.equal(
    await causal(
      [
        { text: 'the', join: 'space' },
        { text: '.', join: 'space' },
      ],
      {},
    ),
    'the Ġ . <P0>',
  );
  assert.equal(await causal([{ text: 'the' }, { field: 'a', join: 'none' }], { a: 're' }), 'the r e <P0>');
});

test('neighbouring texts and fields are tokenized as one text', async () => {
  const tokenizer = await openTokenizer('wordpiece');
  const plan = compileTemplate([{ text: 'un' }, { field: 'x', join: 'none' }, { virtual: 1 }, { target: 'y' }], {
    tokenizer,
    kind: 'masked',
    maxLength: 32,
  });
  assert.equal(show(plan, { x: 'named' }), '[CLS] u ##n ##n ##a ##m ##e ##d P0 <[MASK]> [SEP]');
});

test('values are text, numbers or true and false; others are refused with line and field', async () => {
  const plan = await open('gpt2', [{ field: 'x' }, { virtual: 1 }, { target: 'y' }]);
  assert.equal(show(plan, { x: 12 }), '1 2 <P0>');
  assert.equal(show(plan, { x: true }), 'true <P0>');
  const refused = (row: Row, message: RegExp) =>
    assert.throws(() => renderRow(plan, row, { line: 7 }), {
      code: 'invalid_data',
      param: 'x',
      details: { line: 7, field: 'x' },
      message,
    });
  refused({ y: 'a' }, /^Line 7: Field "x" is missing \(found: y\)\.$/);
  refused({ x: null }, /Field "x" is null; text, a number or true\/false is accepted/);
  refused({ x: ['a'] }, /is a list/);
  refused(JSON.parse('{"__proto__": {"x": "a"}}'), /Field "x" is missing/);
});

test('no pseudo token has the id of padding or of the mask', async () => {
  for (const name of Object.keys(kinds) as TokenizerName[]) {
    const plan = await open(name, [{ virtual: 4 }, { target: 'y' }]);
    const { special } = plan.tokenizer;
    const { ids, slots } = renderRow(plan, {});
    const placed = ids.filter((_, i) => slots[i]! >= 0);
    assert.equal(placed.length, 4);
    assert.ok(placed.every((id) => id !== special.pad && id !== special.mask));
  }
});

test('only shortenable fields are cut, the longest first, from the end', async () => {
  const template: Template = [
    { field: 'a', shortenable: true },
    { text: 'is' },
    { field: 'b', shortenable: true },
    { virtual: 2 },
    { target: 'y' },
  ];
  const plan = await open('wordpiece', template, 12);
  const row = { a: 'the city of paris', b: 'a great country in the city of london', y: 'yes' };
  // 18 tokens of which 12 fit: b goes from 8 to 4, then both in turns.
  assert.equal(show(plan, row), '[CLS] the city of is a great country P0 P1 <[MASK]> [SEP]');
  assert.equal(renderRow(plan, row).cut, 6);
  assert.equal(renderRow(plan, { a: 'the', b: 'city' }).cut, 0);
});

test('a row that does not fit is refused with line, length and maximum', async () => {
  const template: Template = [{ field: 'a' }, { field: 'b', shortenable: true }, { virtual: 2 }, { target: 'y' }];
  const plan = await open('wordpiece', template, 8);
  const row = { a: 'the capital of france', b: 'paris is', y: 'yes' };
  assert.throws(() => renderRow(plan, row, { line: 3 }), {
    code: 'template_too_long',
    details: { line: 3, length: 11, maximum: 8 },
    message: /^Line 3: The row is 11 tokens long; this LM takes at most 8\. Its shortenable fields have only 1 token/,
  });
  const rigid = await open('wordpiece', [{ field: 'a' }, { virtual: 2 }, { target: 'y' }], 8);
  assert.throws(() => renderRow(rigid, { a: 'the capital of france' }), /mark long ones with "shortenable": true/);
});

test('a template longer than the LM, or a masked LM without a mask, is refused before any row', async () => {
  await assert.rejects(open('gpt2', [{ virtual: 60 }, { text: 'the capital of the city' }, { target: 'y' }]), {
    code: 'template_too_long',
    param: 'template',
    message: 'The template alone is 65 tokens long; this LM takes at most 64.',
  });
  const tokenizer = await openTokenizer('gpt2');
  assert.throws(() => compileTemplate([{ virtual: 1 }, { target: 'y' }], { tokenizer, kind: 'masked', maxLength: 9 }), {
    code: 'invalid_template',
    message: /no mask token/,
  });
});

test('where nothing stands before the target, a causal LM reads it from the token that begins a text', async () => {
  assert.equal(show(await open('gpt2', [{ field: 'x' }, { target: 'y' }]), { x: '' }), '<<|endoftext|>>');
});

const words = fc.array(fc.constantFrom('the', 'city', 'of', 'Paris', 'xyz', '.'), { maxLength: 40, size: 'max' });
const segment = fc.oneof(
  fc.record({ virtual: fc.integer({ min: 1, max: 4 }) }),
  fc.record({ field: fc.constantFrom('a', 'b', 'c'), shortenable: fc.boolean() }),
  fc.record({ text: fc.constantFrom('is', '.', 'named after', '\n') }),
);

/** Tokens of a row whose shortenable fields keep one token each. */
function leastLength(template: Template, row: Row, lm: AskedLm & { tokenizer: Tokenizer }): number {
  const isCut = (one: Template[number]) => 'field' in one && one.shortenable === true;
  const kept = template.filter((one) => isCut(one) && 'field' in one && row[one.field] !== '').length;
  const rigid = template.map((one) => (isCut(one) ? { field: 'empty', shortenable: true } : one));
  return renderRow(compileTemplate(rigid, { ...lm, maxLength: 10_000 }), { ...row, empty: '' }).ids.length + kept;
}

async function checkCuts(name: TokenizerName): Promise<void> {
  const tokenizer: Tokenizer = await openTokenizer(name);
  const kind = kinds[name];
  const arbitrary = fc.record({
    before: fc.array(segment, { maxLength: 6, size: 'max' }),
    after: fc.array(segment, { maxLength: kind === 'masked' ? 4 : 0 }),
    a: words,
    b: words,
    c: words,
    maxLength: fc.integer({ min: 40, max: 60 }),
  });
  const seen = { refused: 0, cut: 0 };
  fc.assert(
    fc.property(arbitrary, ({ before, after, a, b, c, maxLength }) => {
      const template: Template = [...before, { target: 'y' }, ...after, ...(kind === 'masked' ? [{ virtual: 1 }] : [])];
      const row = { a: a.join(' '), b: b.join(' '), c: c.join(' '), y: 'yes' };
      const plan = compileTemplate(template, { tokenizer, kind, maxLength });
      const whole = renderRow(compileTemplate(template, { tokenizer, kind, maxLength: 10_000 }), row);
      if (leastLength(template, row, { tokenizer, kind }) > maxLength) {
        assert.throws(() => renderRow(plan, row), { code: 'template_too_long' });
        seen.refused++;
        return;
      }
      const rendered = renderRow(plan, row);
      assert.ok(rendered.ids.length <= maxLength);
      assert.equal(rendered.ids.length, rendered.slots.length);
      assert.equal(rendered.cut, whole.ids.length - rendered.ids.length);
      if (rendered.cut > 0) seen.cut++;
      assert.equal(rendered.cut > 0, whole.ids.length > maxLength);
      const placed = rendered.slots.filter((slot) => slot >= 0);
      assert.deepEqual(
        placed,
        Array.from({ length: virtualTokens(template) }, (_, i) => i),
      );
      if (kind === 'masked') assert.equal(rendered.ids[rendered.target], tokenizer.special.mask);
      else assert.equal(rendered.target, rendered.ids.length - 1);
      // What was cut is missing, nothing else: the row is a subsequence of the whole one.
      let at = 0;
      for (const id of whole.ids) if (id === rendered.ids[at]) at++;
      assert.equal(at, rendered.ids.length);
    }),
    { numRuns: 300, seed: 1 },
  );
  assert.ok(seen.refused > 10 && seen.cut > 10, JSON.stringify(seen));
}

test('cutting never touches pseudo tokens, target or fixed text (masked)', () => checkCuts('wordpiece'));
test('cutting never touches pseudo tokens, target or fixed text (causal)', () => checkCuts('llama'));

test('a pseudo token stands on an id that is neither padding nor the mask: positions may be counted from ids', async () => {
  for (const name of Object.keys(kinds) as TokenizerName[]) {
    const plan = await open(name, [{ virtual: 2 }, { target: 'y' }]);
    const { special } = plan.tokenizer;
    assert.ok(plan.placeholder !== special.pad && plan.placeholder !== special.mask, name);
  }
});
