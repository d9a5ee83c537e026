/** Quantized exports beyond the gradient (references.test.ts): prediction, word embeddings, manifest. */
import assert from 'node:assert/strict';
import { cpSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { readSafetensors } from '../../src/artifacts/safetensors.ts';
import { importModel } from '../../src/lm/import.ts';
import { inspectDirectory } from '../../src/lm/inspect.ts';
import { createLm } from '../../src/lm/open.ts';
import { predictProgram } from '../../src/lm/programs.ts';
import { batchFeeds, openProgram } from '../../src/lm/run-program.ts';
import { decodeModel } from '../../src/onnx/decode.ts';
import { numbersOf } from '../../src/onnx/types.ts';
import { readReference, relativeError } from '../../src/tuning/reference.ts';

const folderOf = (name: string) => fileURLToPath(new URL(`../fixtures/quantized/${name}`, import.meta.url));
const scratch = mkdtempSync(join(tmpdir(), 'ptuned-quantized-'));
after(() => rmSync(scratch, { recursive: true }));

/** A copy with some tokenizer, without which nothing is imported. */
function importable(name: string): string {
  const folder = join(scratch, name);
  cpSync(folderOf(name), folder, { recursive: true });
  cpSync('demo/models/demo-bert/tokenizer.json', join(folder, 'tokenizer.json'));
  return folder;
}

for (const name of ['llama-int4', 'llama-nf4', 'llama-uint4', 'llama-qdq4', 'bert-dynamic', 'gpt2-channel']) {
  test(`${name}: logits as PyTorch's`, async () => {
    const lm = inspectDirectory(folderOf(name));
    const path = join(folderOf(name), 'reference.safetensors');
    const { batch, table } = await readReference(path);
    const wanted = (await readSafetensors(path)).get('target_logits')!.data as Float32Array;
    const options = { threads: 1, device: 'cpu' as const, directory: lm.graphDirectory };
    const runner = await openProgram(predictProgram(lm), options);
    const [found] = await runner.run(batchFeeds(batch, table));
    await runner.close();
    const error = relativeError(found as Float32Array, wanted);
    assert.ok(error < 1e-5, `relative error ${error}`);
  });
}

test('only an LM that rounds names straight-through ops in its manifest', async () => {
  const rounding = await importModel(importable('bert-dynamic'));
  assert.deepEqual(rounding.straightThrough?.sort(), ['DynamicQuantizeLinear', 'MatMulInteger']);
  const exact = await importModel(importable('llama-uint4'));
  assert.equal(exact.straightThrough, undefined);
  assert.equal(exact.gradientPath['com.microsoft.MatMulNBits'], 15);
});

/** The whole table of word embeddings, dequantized here. */
function table(name: string): number[][] {
  const { graph } = decodeModel(readFileSync(join(folderOf(name), 'model.onnx')), name);
  const { weight, width } = inspectDirectory(folderOf(name)).embedding;
  const stored = graph.initializers.get(weight)!;
  const get = (suffix: string) => numbersOf(graph.initializers.get(weight.replace(/_(quantized|Q4)$/, suffix))!)!;
  const data = stored.data as Uint8Array;
  const row = (i: number) => Array.from({ length: width }, (_, k) => i * width + k);
  if (stored.dtype === 'int4') {
    const scales = get('_scales');
    // Two's complement, the low half of a byte first.
    const element = (at: number) => (((data[at >> 1]! >> (at % 2 === 0 ? 0 : 4)) & 15) ^ 8) - 8;
    return scales.map((scale, i) => row(i).map((at) => element(at) * scale));
  }
  const [scale, zero] = [get('_scale')[0]!, get('_zero_point')[0]!];
  return Array.from({ length: stored.dims[0]! }, (_, i) => row(i).map((at) => (data[at]! - zero) * scale));
}

for (const name of ['llama-int4', 'bert-dynamic']) {
  test(`${name}: word embeddings and their mean are dequantized`, async () => {
    const lm = createLm(await importModel(importable(name)), inspectDirectory(folderOf(name)), { threads: 1, device: 'cpu' });
    const rows = table(name);
    const found = await lm.embeddings([7, 3, 7]);
    assert.ok(relativeError(found, Float32Array.from([7, 3, 7].flatMap((id) => rows[id]!))) < 1e-6);
    const mean = rows[0]!.map((_, k) => rows.reduce((sum, row) => sum + row[k]!, 0) / rows.length);
    assert.ok(relativeError(await lm.meanEmbedding(), Float32Array.from(mean)) < 1e-5);
    await lm.close();
  });
} // biome-ignore format: one call a line
