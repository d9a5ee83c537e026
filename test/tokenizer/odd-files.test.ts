/** Forms of tokenizer.json that are rare, and such as no tokenizer has. */
import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { loadTokenizer, readSpecialTokens } from '../../src/tokenizer/load.ts';
import type { Tokenizer } from '../../src/tokenizer/tokenizer.ts';
import { type TokenizerName, writeTokenizer } from '../fixtures/tokenizers/build.ts';
import { openTokenizer, spelled } from '../fixtures/tokenizers/open.ts';

type Json = Record<string, unknown>;

/** One of the test tokenizers with its files changed. */
async function changed<T>(
  name: TokenizerName,
  change: (tokenizer: Json, config: Json) => object | null,
  work: (directory: string) => Promise<T>,
): Promise<T> {
  const directory = await mkdtemp(join(tmpdir(), 'ptuned-tokenizer-'));
  try {
    writeTokenizer(name, directory);
    const [path, configPath] = [join(directory, 'tokenizer.json'), join(directory, 'tokenizer_config.json')];
    const tokenizer = JSON.parse(await readFile(path, 'utf8'));
    const config = JSON.parse(await readFile(configPath, 'utf8'));
    await writeFile(path, JSON.stringify(change(tokenizer, config) ?? tokenizer));
    await writeFile(configPath, JSON.stringify(config));
    return await work(directory);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

test('special tokens around a text are found although the vocabulary has no "a"', async () => {
  const remove = (tokenizer: Json) => {
    const { vocab } = tokenizer.model as { vocab: Record<string, number> };
    for (const piece of ['a', '##a', '[UNK]']) delete vocab[piece];
    tokenizer.added_tokens = (tokenizer.added_tokens as { content: string }[]).filter(
      (token) => token.content !== '[UNK]',
    );
    return null;
  };
  const { prefix, suffix } = await changed('wordpiece', remove, loadTokenizer);
  assert.deepEqual([prefix, suffix], [[2], [3]]);
});

test('a tokenizer that drops leading spaces (ALBERT, XLNet) still tells a word after a space from one that is glued', async () => {
  const plain = await openTokenizer('xlm-roberta');
  const trimming = await changed(
    'xlm-roberta',
    (_tokenizer, config) => {
      config.remove_space = true;
      return null;
    },
    loadTokenizer,
  );
  const tokens = (tokenizer: Tokenizer, text: string, afterSpace: boolean) =>
    spelled(tokenizer, tokenizer.encode(text, { afterSpace }));
  assert.equal(tokens(trimming, 'the capital', true), '▁the ▁capital');
  for (const text of ['the capital  of France', 'Paris.', 'Paris']) {
    for (const afterSpace of [true, false]) {
      assert.equal(tokens(trimming, text, afterSpace), tokens(plain, text, afterSpace), `${text} ${afterSpace}`);
    }
  }
});

test('a tokenizer.json of the wrong shape is refused by name, never a crash', async () => {
  const shapes: [string, (tokenizer: Json) => object][] = [
    ['no model', (tokenizer) => ({ ...tokenizer, model: null })],
    ['no vocabulary', (tokenizer) => ({ ...tokenizer, model: { type: 'WordPiece', vocab: null } })],
    ['added tokens that are a number', (tokenizer) => ({ ...tokenizer, added_tokens: 5 })],
    ['added tokens without content', (tokenizer) => ({ ...tokenizer, added_tokens: [null] })],
    ['a Unigram list of numbers', (tokenizer) => ({ ...tokenizer, model: { type: 'Unigram', vocab: [1, 2] } })],
    ['an unknown normalizer', (tokenizer) => ({ ...tokenizer, normalizer: { type: 'Nothing' } })],
  ];
  for (const [what, change] of shapes) {
    await changed('wordpiece', change, async (directory) => {
      const expected = { code: 'import_refused', message: /tokenizer\.json is not accepted/ };
      await assert.rejects(loadTokenizer(directory), expected, what);
    });
  }
});

test('an id that is no number is no special token', async () => {
  const change = (tokenizer: Json) => {
    (tokenizer.model as { vocab: Record<string, unknown> }).vocab['[MASK]'] = 'four';
    return { ...tokenizer, added_tokens: [] };
  };
  assert.equal((await changed('wordpiece', change, readSpecialTokens)).mask, null);
});
