/**
 * Fused attention whose kernel is told how many keys a row has, and counts positions itself (GroupQueryAttention, as
 * onnxruntime-genai writes it): rows behind pasts of different lengths, and behind padding, against each text whole.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { padBatch } from '../../src/data/batches.ts';
import { keysAndValues, openCached } from '../../src/lm/cache.ts';
import { inspectDirectory } from '../../src/lm/inspect.ts';
import { createPredictor } from '../../src/lm/predict.ts';
import { predictProgram, trainProgram } from '../../src/lm/programs.ts';
import { batchFeeds, openProgram, trainerOn } from '../../src/lm/run-program.ts';
import type { PromptTable } from '../../src/lm/types.ts';
import { prefixWidth } from '../../src/models/past.ts';
import { relativeError, vocabularyCandidates } from '../../src/tuning/reference.ts';
import { plainRow } from '../support/rows.ts';

async function load(name: string) {
  const lm = inspectDirectory(fileURLToPath(new URL(`../fixtures/genai/${name}`, import.meta.url)));
  const options = { threads: 1, device: 'cpu' as const, directory: lm.graphDirectory };
  const { width } = lm.embedding;
  const table: PromptTable = { rows: 1, width, values: new Float32Array(width) };
  const whole = await openProgram(predictProgram(lm), options);
  const session = await openCached(lm, options);
  return {
    lm,
    options,
    table,
    predictor: await createPredictor(lm, options),
    /** Logits behind a text, by the fused kernel. */
    async logitsOf(ids: number[]) {
      return (await whole.run(batchFeeds(padBatch([plainRow(ids)], 0).batch, table)))[0] as Float32Array;
    },
    /** What the LM computes for a text, as a prefix. */
    async prefixOf(ids: number[]): Promise<PromptTable> {
      const width = prefixWidth(lm.inputs);
      return { rows: ids.length, width, values: await keysAndValues(session, ids, lm.embedding.width) };
    },
  };
}

const texts = [
  [7, 8, 9, 10, 11, 12],
  [20, 21, 22],
  [30, 31, 32, 33, 34],
];

for (const name of ['llama-fp16', 'gemma-fp32']) {
  test(`${name}: rows of different lengths generate as each alone`, async () => {
    const { lm, predictor, table, logitsOf } = await load(name);
    const size = lm.vocabularySize;
    const now = texts.map((ids) => [...ids]);
    const decoding = await predictor.decode(padBatch(now.map(plainRow), 0).batch, table);
    for (const tokens of [
      [13, 14, 15],
      [16, 17, 18],
      [23, 24],
    ]) {
      if (tokens.length < decoding.rows.length) decoding.keep([1, 2]);
      for (const [at, index] of decoding.rows.entries()) {
        const error = relativeError(decoding.logits.subarray(at * size, (at + 1) * size), await logitsOf(now[index]!));
        assert.ok(error < 1e-5, `row ${index} of ${now[index]!.length} tokens: ${error}`);
        now[index]!.push(tokens[at]!);
      }
      await decoding.advance(tokens);
    }
    await predictor.close();
  });

  test(`${name}: behind prefixes of different lengths in one batch, and after them, each text as if read whole`, async () => {
    const { lm, predictor, table, logitsOf, prefixOf } = await load(name);
    const size = lm.vocabularySize;
    const heads = [4, 1, 0];
    const prefixes = await Promise.all(
      texts.map((ids, i) => (heads[i] === 0 ? null : prefixOf(ids.slice(0, heads[i])))),
    );
    const rest = texts.map((ids, i) => plainRow(ids.slice(heads[i])));
    const batch = { ...padBatch(rest, 0).batch, prefixes };
    const logits = await predictor.logits(batch, table);
    const decoding = await predictor.decode(batch, table);
    await decoding.advance([13, 14, 15]);
    for (const [i, ids] of texts.entries()) {
      const [first, second] = [logits, decoding.logits].map((one) => one.subarray(i * size, (i + 1) * size));
      assert.ok(relativeError(first!, await logitsOf(ids)) < 1e-5);
      assert.ok(relativeError(second!, await logitsOf([...ids, 13 + i])) < 1e-5);
    }
    await predictor.close();
  });

  test(`${name}: a training step behind a prefix has the loss of the whole text`, async () => {
    const { lm, options, table, prefixOf } = await load(name);
    const candidates = vocabularyCandidates(lm.vocabularySize);
    const labels = BigInt64Array.of(3n, 5n);
    const shared = [7, 8, 9];
    const own = [
      [10, 11, 12],
      [20, 21],
    ];
    const behind = trainerOn(await openProgram(trainProgram(lm, candidates, 'past'), options));
    const plain = trainerOn(await openProgram(trainProgram(lm, candidates), options));
    const found = await behind.step(padBatch(own.map(plainRow), 0).batch, labels, await prefixOf(shared));
    const expected = await plain.step(
      padBatch(
        own.map((ids) => plainRow([...shared, ...ids])),
        0,
      ).batch,
      labels,
      table,
    );
    assert.ok(relativeError(found.losses, expected.losses) < 1e-5);
    assert.ok(found.gradient.some((x) => x !== 0));
    await behind.close();
    await plain.close();
  });
}
