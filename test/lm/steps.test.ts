/** Generation from an encoder-decoder LM's cache gives what the whole decoder gives, in every layout that has one. */
import assert from 'node:assert/strict';
import { existsSync, rmSync, truncateSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { readSafetensors } from '../../src/artifacts/safetensors.ts';
import type { PtunedError } from '../../src/errors.ts';
import { createAnsweringPredictor } from '../../src/lm/answer.ts';
import { importModel } from '../../src/lm/import.ts';
import { type Inspected, inspectDirectory } from '../../src/lm/inspect.ts';
import { openLm } from '../../src/lm/open.ts';
import { createPredictor } from '../../src/lm/predict.ts';
import type { Decoding } from '../../src/lm/types.ts';
import { readReference, relativeError } from '../../src/tuning/reference.ts';
import { changeAttention, joinFiles, splitDecoder, t5Fixture, t5Folder } from '../support/t5.ts';

const reference = (folder: string) => readReference(join(folder, 'reference.safetensors'));

function predictorOf(lm: Inspected) {
  return createAnsweringPredictor(lm, lm.encoded!, { threads: 1, device: 'cpu', directory: lm.graphDirectory });
}

/** Logits of every step, rows leaving on the way. */
async function generate(decoding: Decoding, vocabulary: number): Promise<Float32Array[]> {
  const seen = [decoding.logits];
  for (let step = 0; step < 24; step++) {
    if (step === 5) decoding.keep([0, 2]);
    if (step === 16) decoding.keep([2]);
    await decoding.advance(decoding.rows.map((row) => (7 * step + 13 * row) % vocabulary));
    seen.push(decoding.logits);
  }
  return seen;
}

async function checkAgreement(lm: Inspected, folder: string): Promise<void> {
  const { batch, table } = await reference(folder);
  const [cached, whole] = [await predictorOf(lm), await predictorOf({ ...lm, steps: null })];
  const found = await generate(await cached.decode(batch, table), lm.vocabularySize);
  const expected = await generate(await whole.decode(batch, table), lm.vocabularySize);
  for (const [step, logits] of expected.entries()) {
    assert.equal(found[step]!.length, logits.length);
    const error = relativeError(found[step]!, logits);
    assert.ok(error < 1e-5, `step ${step} differs by ${error}`);
  }
  await cached.close();
  await whole.close();
}

test('what PyTorch generates: its logits at every step, from the cache and without', async () => {
  const { batch, table } = await reference(t5Fixture);
  const tensors = await readSafetensors(join(t5Fixture, 'reference.safetensors'));
  const [rows, length] = tensors.get('generated')!.shape as [number, number];
  const tokens = Array.from(tensors.get('generated')!.data as BigInt64Array, Number);
  const logits = tensors.get('generated_logits')!.data as Float32Array;
  const lm = inspectDirectory(t5Fixture);
  const size = lm.vocabularySize;
  const start = BigInt64Array.from({ length: rows }, (_, row) => BigInt(tokens[row * length]!));
  const begun = { ...batch, targets: new BigInt64Array(rows), decoder: { length: 1, ids: start } };
  for (const one of [lm, { ...lm, steps: null }]) {
    const predictor = await predictorOf(one);
    const decoding = await predictor.decode(begun, table);
    for (let step = 0; step < length - 1; step++) {
      if (step > 0) await decoding.advance(decoding.rows.map((row) => tokens[row * length + step]!));
      for (let row = 0; row < rows; row++) {
        const at = row * (length - 1) + step;
        const expected = logits.subarray(at * size, (at + 1) * size);
        const error = relativeError(decoding.logits.subarray(row * size, (row + 1) * size), expected);
        assert.ok(error < 1e-5, `row ${row}, step ${step}: ${error}`);
      }
    }
    await predictor.close();
  }
});

test('the branch of a merged decoder', async () => {
  const lm = inspectDirectory(t5Fixture);
  assert.deepEqual(lm.steps, { file: 'decoder_model_merged.onnx', branch: true });
  await checkAgreement(lm, t5Fixture);
});

test('a file beside the decoder', async () => {
  const folder = t5Folder([]);
  splitDecoder(folder);
  const lm = inspectDirectory(folder);
  assert.deepEqual(lm.steps, { file: 'decoder_with_past_model.onnx', branch: false });
  await checkAgreement(lm, folder);
});

test('one graph without a cache: its encoder runs once, and the decoder says what both together say', async () => {
  const folder = t5Folder([]);
  joinFiles(folder);
  const lm = inspectDirectory(folder);
  assert.deepEqual(lm.files.map((file) => file.path), ['model.onnx']); // biome-ignore format: short
  assert.equal(lm.encoded, inspectDirectory(t5Fixture).encoded);
  const { batch, table } = await reference(folder);
  const [parted, whole] = [
    await predictorOf(lm),
    await createPredictor({ ...lm, encoded: null }, { threads: 1, device: 'cpu', directory: lm.graphDirectory }),
  ];
  const found = await generate(await parted.decode(batch, table), lm.vocabularySize);
  const expected = await generate(await whole.decode(batch, table), lm.vocabularySize);
  for (const [step, logits] of expected.entries()) assert.ok(relativeError(found[step]!, logits) < 1e-5);
  await parted.close();
  await whole.close();
  assert.equal((await importModel(folder)).cachedDecoder, undefined);
});

const shared = fileURLToPath(new URL('../../../shared/fixtures/t5-past', import.meta.url));
test('a deeper LM', { skip: existsSync(shared) ? false : `${shared} is not on this machine` }, () =>
  checkAgreement(inspectDirectory(shared), shared),
);

test('import finds the cache out and hashes its file; without one generation runs the whole decoder', async () => {
  const merged = t5Folder([]);
  assert.deepEqual((await importModel(merged)).cachedDecoder, []);
  splitDecoder(merged);
  const split = await importModel(merged);
  assert.deepEqual(split.cachedDecoder?.map(({ path }) => path), ['decoder_with_past_model.onnx']); // biome-ignore format: short
  rmSync(join(merged, 'decoder_with_past_model.onnx'));
  const without = await importModel(merged);
  assert.equal(without.cachedDecoder, undefined);
  assert.equal(without.hash, split.hash);
  const { batch, table } = await reference(merged);
  const lm = await openLm(without, { threads: 1, device: 'cpu' });
  const predictor = await lm.predictor();
  const decoding = await predictor.decode(batch, table);
  assert.ok(relativeError(decoding.logits, await predictor.logits(batch, table)) < 1e-6);
  await predictor.close();
  await lm.close();
});

test('a cache that says something else is not used, a damaged one is refused by its name', async () => {
  const folder = t5Folder([]);
  splitDecoder(folder);
  const path = join(folder, 'decoder_with_past_model.onnx');
  changeAttention(path);
  assert.equal((await importModel(folder)).cachedDecoder, undefined);
  truncateSync(path, 1000);
  await assert.rejects(
    importModel(folder),
    (error: PtunedError) => error.code === 'damaged_model' && error.message.includes('decoder_with_past_model.onnx'),
  );
});
