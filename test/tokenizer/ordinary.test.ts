import assert from 'node:assert/strict';
import { test } from 'node:test';
import { loadTokenizer } from '../../src/tokenizer/load.ts';
import { ordinaryTokens } from '../../src/tokenizer/ordinary.ts';

for (const name of ['demo-bert', 'demo-gpt2']) {
  test(`${name}: ordinary tokens say something as text, special ones are none of them`, async () => {
    const tokenizer = await loadTokenizer(`demo/models/${name}`);
    const ids = ordinaryTokens(tokenizer, tokenizer.vocabularySize + 10);
    assert.ok(ids.length > 0.9 * tokenizer.vocabularySize && ids.length < tokenizer.vocabularySize);
    for (const id of Object.values(tokenizer.special)) assert.ok(id === null || !ids.includes(id));
    assert.ok(ids.every((id, i) => id < tokenizer.vocabularySize && (i === 0 || id > ids[i - 1]!)));
    assert.equal(tokenizer.decode([ids[200]!]).includes('\uFFFD'), false);
    assert.deepEqual(
      ordinaryTokens(tokenizer, 300),
      ids.filter((id) => id < 300),
    );
  });
}
