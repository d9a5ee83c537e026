import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { test } from 'node:test';
import { loadTokenizer, readSpecialTokens } from '../../src/tokenizer/load.ts';
import { type TokenizerName, tokenizerNames, writeTokenizer } from '../fixtures/tokenizers/build.ts';
import { openTokenizer, spelled } from '../fixtures/tokenizers/open.ts';

interface Expected {
  text: string;
  ids: number[];
  special: number[];
  decoded: string;
}

const expected = JSON.parse(
  await readFile(join(import.meta.dirname, '../fixtures/tokenizers/expected.json'), 'utf8'),
) as Record<TokenizerName, Expected[]>;

for (const name of tokenizerNames) {
  test(`${name}: the ids and texts of the Hugging Face library`, async () => {
    const tokenizer = await openTokenizer(name);
    assert.ok(expected[name].length > 5);
    for (const { text, ids, special, decoded } of expected[name]) {
      const found = tokenizer.encode(text, { afterSpace: tokenizer.spaceAtStart });
      assert.deepEqual(found, ids, `${text}: ${spelled(tokenizer, found)}`);
      assert.deepEqual([...tokenizer.prefix, ...found, ...tokenizer.suffix], special, text);
      assert.equal(tokenizer.decode(special), decoded, text);
    }
  });
}

test('a word has the marker its tokenizer gives it after a space, and none where it is glued', async () => {
  const cases: [TokenizerName, boolean, string, string][] = [
    ['wordpiece', false, 'paris', 'paris'],
    ['gpt2', false, 'ĠParis', 'Paris'],
    ['roberta', true, 'ĠParis', 'Paris'],
    ['llama', true, '▁Paris', 'Paris'],
    ['xlm-roberta', true, '▁Paris', 'Paris'],
  ];
  for (const [name, spaceAtStart, afterSpace, glued] of cases) {
    const tokenizer = await openTokenizer(name);
    assert.equal(tokenizer.spaceAtStart, spaceAtStart, name);
    assert.equal(spelled(tokenizer, tokenizer.encode('Paris', { afterSpace: true })), afterSpace, name);
    const alone = tokenizer.encode('Paris', { afterSpace: false });
    assert.equal(spelled(tokenizer, alone).replaceAll(' ', ''), glued, name);
    assert.equal(spelled(tokenizer, tokenizer.encode('.', { afterSpace: false })), '.', name);
    assert.deepEqual(tokenizer.encode('', { afterSpace: true }), [], name);
  }
});

test('a special token that is spelled out is one token without a marker', async () => {
  for (const [name, token] of [
    ['wordpiece', '[SEP]'],
    ['roberta', '</s>'],
    ['gpt2', '<|endoftext|>'],
    ['llama', '</s>'],
  ] as const) {
    const tokenizer = await openTokenizer(name);
    assert.equal(spelled(tokenizer, tokenizer.encode(token, { afterSpace: true })), token, name);
  }
});

test('special tokens come from the names in the folder', async () => {
  const bert = await openTokenizer('wordpiece');
  assert.deepEqual(bert.special, { pad: 0, mask: 4, bos: null, eos: null, unk: 1, cls: 2, sep: 3 });
  assert.deepEqual([bert.prefix, bert.suffix], [[2], [3]]);
  const gpt2 = await openTokenizer('gpt2');
  const end = gpt2.vocabularySize - 1;
  assert.deepEqual(gpt2.special, { pad: null, mask: null, bos: end, eos: end, unk: end, cls: null, sep: null });
  assert.deepEqual([gpt2.prefix, gpt2.suffix], [[], []]);
  const roberta = await openTokenizer('roberta');
  assert.deepEqual(roberta.special, {
    pad: 1,
    mask: roberta.vocabularySize - 1,
    bos: 0,
    eos: 2,
    unk: 3,
    cls: 0,
    sep: 2,
  });
});

async function inFolder(files: Record<string, string>, work: (directory: string) => Promise<void>): Promise<void> {
  const directory = await mkdtemp(join(tmpdir(), 'ptuned-tokenizer-'));
  try {
    writeTokenizer('wordpiece', directory);
    for (const [name, text] of Object.entries(files)) await writeFile(join(directory, name), text);
    await work(directory);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

test('special tokens are also found in special_tokens_map.json, config.json and by the usual spelling', async () => {
  const files = {
    'tokenizer_config.json': '{}',
    'special_tokens_map.json': JSON.stringify({ cls_token: { content: '[CLS]' } }),
    'config.json': JSON.stringify({ pad_token_id: 0, eos_token_id: [3, 4] }),
  };
  await inFolder(files, async (directory) => {
    const special = { pad: 0, mask: 4, bos: null, eos: 3, unk: 1, cls: 2, sep: null };
    assert.deepEqual(await readSpecialTokens(directory), special);
  });
});

test('decoding leaves out special and unknown ids, and takes an empty list', async () => {
  const tokenizer = await openTokenizer('gpt2');
  const ids = tokenizer.encode('Paris', { afterSpace: true });
  assert.equal(tokenizer.decode([...ids, 10 ** 6, tokenizer.special.eos!]), ' Paris');
  assert.equal(tokenizer.decode([]), '');
  assert.equal(tokenizer.decode([tokenizer.special.eos!]), '');
  assert.equal(tokenizer.token(10 ** 6), '#1000000');
});

test('where a normalizer takes leading spaces away, the marker is taken off the first token instead', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'ptuned-tokenizer-'));
  try {
    writeTokenizer('xlm-roberta', directory);
    const path = join(directory, 'tokenizer.json');
    const json = JSON.parse(await readFile(path, 'utf8'));
    json.normalizer = { type: 'Strip', strip_left: true, strip_right: true };
    await writeFile(path, JSON.stringify(json));
    const tokenizer = await loadTokenizer(directory);
    const tokens = (text: string, afterSpace: boolean) => spelled(tokenizer, tokenizer.encode(text, { afterSpace }));
    assert.equal(tokenizer.spaceAtStart, true);
    assert.equal(tokens('the capital', true), '▁the ▁capital');
    assert.equal(tokens('the capital', false), 'the ▁capital');
    assert.equal(tokens('.', false), '.');
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
});

test('what is no tokenizer is refused with its file', async () => {
  const refused = (files: Record<string, string>, pattern: RegExp) =>
    inFolder(files, async (directory) => {
      await assert.rejects(loadTokenizer(directory), { code: 'import_refused', message: pattern });
    });
  await refused({ 'tokenizer.json': '{"model": ' }, /tokenizer\.json is not JSON/);
  await refused({ 'tokenizer.json': '[1]' }, /tokenizer\.json holds no JSON object/);
  await refused({ 'tokenizer.json': '{}' }, /tokenizer\.json is not accepted/);
  await refused({ 'tokenizer_config.json': 'x' }, /tokenizer_config\.json is not JSON/);
  await assert.rejects(loadTokenizer('/no/such/folder'), { code: 'missing_file', message: /no tokenizer\.json/ });
});

test('text that a vocabulary without an unknown token cannot spell is refused', async () => {
  await inFolder({}, async (directory) => {
    const path = join(directory, 'tokenizer.json');
    const json = JSON.parse(await readFile(path, 'utf8'));
    delete json.model.vocab['[UNK]'];
    json.added_tokens = json.added_tokens.filter((token: { content: string }) => token.content !== '[UNK]');
    await writeFile(path, JSON.stringify(json));
    const tokenizer = await loadTokenizer(directory);
    assert.throws(() => tokenizer.encode('東京', { afterSpace: false }), {
      code: 'invalid_data',
      message: /a part of "東京"/,
    });
  });
});

const models = resolve(import.meta.dirname, '../../../shared/models');

test('tokenizers of real LMs', { skip: existsSync(models) ? false : '../shared/models is not here' }, async () => {
  const smol = await loadTokenizer(join(models, 'smollm2-135m'));
  assert.equal(smol.vocabularySize, 49152);
  assert.deepEqual(smol.special, { pad: 2, mask: null, bos: 1, eos: 2, unk: 0, cls: null, sep: null });
  const paris = smol.encode('Paris', { afterSpace: true });
  assert.equal(spelled(smol, paris), 'ĠParis');
  assert.equal(smol.decode([...smol.encode('It is', { afterSpace: false }), ...paris]), 'It is Paris');

  const bert = await loadTokenizer(join(models, 'trex-bert'));
  assert.deepEqual([bert.prefix, bert.suffix, bert.special.mask], [[2], [3], 4]);
  const ids = bert.encode('born in Paris, France.', { afterSpace: true });
  assert.equal(bert.decode(ids), 'born in Paris, France.');

  const stories = await loadTokenizer(join(models, 'tinystories-656k'));
  assert.deepEqual([stories.prefix, stories.suffix, stories.spaceAtStart], [[1], [], true]);
  const story = stories.encode('Once upon a time, there was a cat.', { afterSpace: true });
  assert.equal(stories.decode(story), 'Once upon a time, there was a cat.');
});
