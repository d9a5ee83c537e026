/** LMs as onnxruntime-genai's model builder leaves them: see make_genai.py. Gradients are in references.test.ts. */
import assert from 'node:assert/strict';
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { importModel } from '../../src/lm/import.ts';
import { inspectDirectory } from '../../src/lm/inspect.ts';
import { createLm } from '../../src/lm/open.ts';
import { isExternal } from '../../src/onnx/ir.ts';
import { relativeError } from '../../src/tuning/reference.ts';

const folderOf = (name: string) => fileURLToPath(new URL(`../fixtures/genai/${name}`, import.meta.url));
const scratch = mkdtempSync(join(tmpdir(), 'ptuned-genai-'));
after(() => rmSync(scratch, { recursive: true }));

/** A copy with some tokenizer, without which nothing is imported. */
function importable(name: string): string {
  const folder = join(scratch, name);
  cpSync(folderOf(name), folder, { recursive: true });
  cpSync('demo/models/demo-gpt2/tokenizer.json', join(folder, 'tokenizer.json'));
  return folder;
}

test('genai_config.json stands for config.json', async () => {
  const manifest = await importModel(importable('llama-int4'));
  const { kind, architecture, vocabularySize, maxLength, specialTokens } = manifest;
  assert.deepEqual([kind, architecture, vocabularySize, maxLength], ['causal', 'llama', 48, 32]);
  assert.deepEqual([specialTokens.bos, specialTokens.pad], [1, 0]);
  assert.deepEqual(manifest.straightThrough, ['com.microsoft.MatMulNBits']);
  assert.equal(manifest.redundant, 'prefixes');
});

test('the file that genai_config.json names is the graph', () => {
  const folder = join(scratch, 'named');
  cpSync(folderOf('llama-int4'), folder, { recursive: true });
  cpSync(join(folder, 'model.onnx'), join(folder, 'phi-cpu.onnx'));
  const config = {
    model: { type: 'llama', vocab_size: 48, context_length: 32, decoder: { filename: 'phi-cpu.onnx' } },
  };
  writeFileSync(join(folder, 'genai_config.json'), JSON.stringify(config));
  assert.equal(inspectDirectory(folder).files[0]!.path, 'phi-cpu.onnx');
});

test('a configuration of an encoder is refused', () => {
  const folder = join(scratch, 'whisper');
  cpSync(folderOf('llama-int4'), folder, { recursive: true });
  const config = { model: { type: 'whisper', encoder: {}, decoder: { filename: 'model.onnx' } } };
  writeFileSync(join(folder, 'genai_config.json'), JSON.stringify(config));
  assert.throws(() => inspectDirectory(folder), {
    code: 'import_refused',
    message: /"whisper", which is no decoder alone/,
  });
});

test('the size of a head is found where the inputs only name it', () => {
  const past = inspectDirectory(folderOf('llama-fp16')).inputs.filter((input) => input.role === 'past');
  assert.deepEqual(
    past.map(({ shape }) => [shape[1], shape[3]]),
    Array(4).fill([2, 16]),
  );
});

test('tied word embeddings are read where they lie: no weight is stored twice', () => {
  const float = inspectDirectory(folderOf('gemma-fp32'));
  assert.equal(float.embedding.weight, 'lm_head.MatMul.weight');
  assert.equal(float.embedding.axis, 1);
  assert.ok(
    !float.model.graph.nodes.some((node) => node.op === 'Transpose' && node.inputs[0] === float.embedding.weight),
  );
  const packed = inspectDirectory(folderOf('gemma-int4'));
  const stored = packed.model.graph.initializers;
  const [view, head] = [stored.get(packed.embedding.weight)!, stored.get('lm_head.MatMul.weight_Q4')!];
  assert.ok(isExternal(view.data) && view.data === head.data);
  assert.notDeepEqual(view.dims, head.dims);
});

test('word embeddings in the columns of the head, and their mean', async () => {
  const lm = inspectDirectory(folderOf('gemma-fp32'));
  const manifest = await importModel(importable('gemma-fp32'));
  const words = createLm(manifest, lm, { threads: 1, device: 'cpu' });
  const columns = table(lm);
  const { width } = lm.embedding;
  const row = (id: number) => Array.from({ length: width }, (_, k) => columns[k * 48 + id]!);
  const found = await words.embeddings([7, 3]);
  assert.ok(relativeError(found, Float32Array.from([...row(7), ...row(3)])) < 1e-6);
  const mean = Array.from(
    { length: width },
    (_, k) => columns.slice(k * 48, (k + 1) * 48).reduce((a, b) => a + b, 0) / 48,
  );
  assert.ok(relativeError(await words.meanEmbedding(), mean) < 1e-6);
  const direction = Float32Array.from({ length: width }, (_, k) => Math.sin(k));
  const products = await words.products(direction);
  assert.ok(Math.abs(products[5]! - row(5).reduce((sum, x, k) => sum + x * direction[k]!, 0)) < 1e-4);
  await words.close();
});

/** The head's weight [width, vocabulary]. */
function table(lm: ReturnType<typeof inspectDirectory>): number[] {
  const { data } = lm.model.graph.initializers.get(lm.embedding.weight)!;
  assert.ok(isExternal(data));
  const bytes = readFileSync(join(lm.graphDirectory, data.location)).subarray(data.offset, data.offset + data.length);
  return [...new Float32Array(Uint8Array.from(bytes).buffer)];
}
