/** Word embeddings and the keys and values of words, as the LM itself has them. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { padBatch } from '../../src/data/batches.ts';
import { keysAndValues, openCached } from '../../src/lm/cache.ts';
import { inspectDirectory } from '../../src/lm/inspect.ts';
import { createPredictor } from '../../src/lm/predict.ts';
import { createWords } from '../../src/lm/words.ts';
import { prefixWidth } from '../../src/models/past.ts';
import { relativeError } from '../../src/tuning/reference.ts';
import { plainRow } from '../support/rows.ts';

function load(name: string) {
  const lm = inspectDirectory(fileURLToPath(new URL(`../fixtures/${name}`, import.meta.url)));
  return { lm, options: { threads: 1, device: 'cpu' as const, directory: lm.graphDirectory } };
}

for (const name of ['gpt2', 'bert', 'quantized/llama-uint4', 'quantized/llama-int4']) {
  test(`${name}: products with all word embeddings`, async () => {
    const { lm, options } = load(name);
    const words = createWords(lm, options);
    const { width } = lm.embedding;
    const vector = Float32Array.from({ length: width }, (_, i) => Math.cos(i));
    const products = await words.products(vector);
    const ids = Array.from({ length: lm.vocabularySize }, (_, id) => id);
    const embeddings = await words.embeddings(ids);
    await words.close();
    const expected = ids.map((id) => vector.reduce((sum, value, i) => sum + value * embeddings[id * width + i]!, 0));
    assert.equal(products.length, lm.vocabularySize);
    assert.ok(relativeError(products, expected) < 1e-6);
  });
}

for (const name of ['past/gpt2', 'past/llama']) {
  test(`${name}: a row behind the keys and values of words is the row behind these words`, async () => {
    const { lm, options } = load(name);
    const session = await openCached(lm, options);
    const before = [7, 8, 9, 10];
    const values = await keysAndValues(session, before, lm.embedding.width);
    await session.close();
    const width = prefixWidth(lm.inputs);
    assert.equal(values.length, before.length * width);
    const predictor = await createPredictor(lm, options);
    const none = { rows: 1, width: lm.embedding.width, values: new Float32Array(lm.embedding.width) };
    const rest = [20, 21, 22];
    const whole = await predictor.logits(padBatch([plainRow([...before, ...rest])], 0).batch, none);
    const prefixes = [{ rows: before.length, width, values }];
    const behind = await predictor.logits({ ...padBatch([plainRow(rest)], 0).batch, prefixes }, none);
    await predictor.close();
    assert.ok(relativeError(behind, whole) < 1e-5);
  });
}
