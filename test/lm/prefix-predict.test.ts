/** Predictions behind prefixes: PyTorch's logits, mixed batches, generation that goes on from the cache. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { readSafetensors } from '../../src/artifacts/safetensors.ts';
import { padBatch } from '../../src/data/batches.ts';
import { inspectDirectory } from '../../src/lm/inspect.ts';
import { createPredictor } from '../../src/lm/predict.ts';
import type { PromptTable } from '../../src/lm/types.ts';
import type { RenderedRow } from '../../src/tasks/types.ts';
import { relativeError } from '../../src/tuning/reference.ts';

async function load(name: string) {
  const folder = fileURLToPath(new URL(`../fixtures/past/${name}`, import.meta.url));
  const tensors = await readSafetensors(join(folder, 'reference.safetensors'));
  const lm = inspectDirectory(folder);
  const predictor = await createPredictor(lm, { threads: 1, device: 'cpu', directory: lm.graphDirectory });
  const prefix = tensors.get('prefix')!;
  const [n, width] = prefix.shape as [number, number];
  const values = prefix.data as Float32Array;
  const long: PromptTable = { rows: n, width, values };
  const short: PromptTable = { rows: 2, width, values: values.slice(width, 3 * width).map((value) => -value) };
  const H = lm.embedding.width;
  const table: PromptTable = { rows: 2, width: H, values: Float32Array.from({ length: 2 * H }, (_, i) => Math.sin(i)) };
  return { lm, predictor, tensors, long, short, table };
}

const row = (ids: number[], slots = ids.map(() => -1)): RenderedRow => ({
  ids,
  slots,
  target: ids.length - 1,
  label: -1,
  cut: 0,
});

for (const name of ['gpt2', 'llama']) {
  test(`${name}: logits behind a prefix as PyTorch's`, async () => {
    const { predictor, tensors, long, table } = await load(name);
    const longs = (key: string) => tensors.get(key)!.data as BigInt64Array;
    const [rows, length] = tensors.get('input_ids')!.shape as [number, number];
    const slots = new BigInt64Array(rows * length).fill(-1n);
    const [ids, mask, targets] = [longs('input_ids'), longs('attention_mask'), longs('target_position')];
    const prefixes = [long, long, long];
    const logits = await predictor.logits({ rows, length, ids, mask, slots, targets, prefixes }, table);
    await predictor.close();
    assert.ok(relativeError(logits, tensors.get('target_logits')!.data as Float32Array) < 1e-5);
  });

  test(`${name}: prefixes, pseudo tokens and plain rows in one batch answer as each alone`, async () => {
    const { lm, predictor, long, short, table } = await load(name);
    const rows = [row([7, 8, 9, 10]), row([11, 12]), row([5, 6, 7], [0, -1, 1]), row([20, 21, 22, 23, 24])];
    const prefixes = [long, short, null, null];
    const size = lm.vocabularySize;
    const batch = { ...padBatch(rows, 0).batch, prefixes };
    const together = await predictor.logits(batch, table);
    for (const [i, one] of rows.entries()) {
      const plain = padBatch([one], 0).batch;
      const alone = prefixes[i] === null ? plain : { ...plain, prefixes: [prefixes[i]!] };
      const expected = await predictor.logits(alone, table);
      const error = relativeError(together.subarray(i * size, (i + 1) * size), expected);
      assert.ok(error < 1e-5, `row ${i}: ${error}`);
    }
    await predictor.close();
  });

  test(`${name}: generation behind prefixes gives the logits of the whole text`, async () => {
    const { lm, predictor, long, short, table } = await load(name);
    const size = lm.vocabularySize;
    const texts = [
      [7, 8, 9, 10],
      [11, 12],
      [20, 21, 22],
    ];
    const prefixes = [long, short, null];
    const decoding = await predictor.decode(
      {
        ...padBatch(
          texts.map((ids) => row(ids)),
          0,
        ).batch,
        prefixes,
      },
      table,
    );
    for (const tokens of [
      [30, 31, 32],
      [33, 34, 35],
      [36, 37],
    ]) {
      const { rows } = decoding;
      for (const [at, index] of rows.entries()) {
        const { batch } = padBatch([row(texts[index]!)], 0);
        const expected = await predictor.logits({ ...batch, prefixes: [prefixes[index]!] }, table);
        const error = relativeError(decoding.logits.subarray(at * size, (at + 1) * size), expected);
        assert.ok(error < 1e-5, `row ${index} after ${texts[index]!.length} tokens: ${error}`);
      }
      // The second row ends early.
      if (tokens.length < rows.length) decoding.keep([0, 2]);
      for (const [at, index] of decoding.rows.entries()) texts[index]!.push(tokens[at]!);
      await decoding.advance(tokens);
    }
    await predictor.close();
  });
}

test('gpt2 without a cache: generation by repeating gives the logits of the whole text', async () => {
  const lm = inspectDirectory(fileURLToPath(new URL('../fixtures/gpt2', import.meta.url)));
  const predictor = await createPredictor(lm, { threads: 1, device: 'cpu', directory: lm.graphDirectory });
  const width = lm.embedding.width;
  const table = { rows: 1, width, values: Float32Array.from({ length: width }, (_, i) => Math.cos(i)) };
  const rows = [row([7, 8, 9], [-1, 0, -1]), row([11, 12])];
  const decoding = await predictor.decode(padBatch(rows, 0).batch, table);
  await decoding.advance([30, 31]);
  const longer = [row([7, 8, 9, 30], [-1, 0, -1, -1]), row([11, 12, 31])];
  const expected = await predictor.logits(padBatch(longer, 0).batch, table);
  assert.ok(relativeError(decoding.logits, expected) < 1e-5);
  await predictor.close();
});
