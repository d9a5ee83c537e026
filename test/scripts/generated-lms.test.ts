/** Generated LMs: every family imports and trains as a real export does, and the same options give the same bytes. */
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { families } from '../../scripts/lms/registry.ts';
import { type LmOptions, writeLm } from '../../scripts/lms/write.ts';
import { importModel } from '../../src/lm/import.ts';
import { hasCache } from '../../src/models/past.ts';
import { readModel } from '../../src/onnx/decode.ts';
import { isExternal, type Tensor } from '../../src/onnx/ir.ts';
import { loadTokenizer } from '../../src/tokenizer/load.ts';

const scratch = mkdtempSync(join(tmpdir(), 'ptuned-generated-'));
after(() => rmSync(scratch, { recursive: true, force: true }));

const small = { layers: 2, hidden: 32, heads: 4, vocabulary: 300, positions: 64 };

function write(folder: string, family: string, options: LmOptions = {}): string {
  const { shape, ...rest } = options;
  const directory = join(scratch, folder);
  writeLm(directory, families.get(family)!, { shape: { ...small, ...shape }, ...rest });
  return directory;
}

function floats(directory: string, { data }: Tensor): Float32Array {
  assert.ok(isExternal(data));
  const bytes = readFileSync(join(directory, data.location)).subarray(data.offset, data.offset + data.length);
  return new Float32Array(new Uint8Array(bytes).buffer);
}

const forms: [string, string, LmOptions, RegExp][] = [
  ['gpt2', 'gpt2', {}, /Gemm.*Tanh|Tanh.*Gemm/],
  ['bert', 'bert', {}, /Erf/],
  ['llama', 'llama', { shape: { keyValueHeads: 2 } }, /Sigmoid.*Slice/],
  ['llama without groups', 'llama', { head: 'tied' }, /Sigmoid/],
  ['gpt2 with a cache', 'gpt2', { cache: true }, /Gemm/],
  ['llama with a cache', 'llama', { cache: true, shape: { keyValueHeads: 2 } }, /Sigmoid/],
  ['gpt2 in half precision', 'gpt2', { precision: 'float16' }, /Gemm/],
];

for (const [name, family, options, ops] of forms) {
  test(`${name}: imported, trial step included, with the ops exporters write`, async () => {
    const directory = write(name.replaceAll(' ', '-'), family, options);
    const manifest = await importModel(directory);
    assert.equal(manifest.vocabularySize, 300);
    assert.equal(manifest.maxLength, 64);
    assert.equal(manifest.kind, family === 'bert' ? 'masked' : 'causal');
    assert.equal(hasCache(manifest.inputs), options.cache === true);
    if (manifest.kind === 'causal') assert.equal(manifest.redundant, 'prefixes');
    assert.match(Object.keys(manifest.gradientPath).join(' '), ops);
    assert.deepEqual(
      manifest.files.map((file) => file.path),
      ['model.onnx', 'model.onnx_data'],
    );
  });
}

test('the same options give the same bytes, another seed other weights', async () => {
  const [a, b, c] = [write('a', 'gpt2'), write('b', 'gpt2'), write('c', 'gpt2', { seed: 1 })];
  const hashes = await Promise.all([a, b, c].map(async (directory) => (await importModel(directory)).hash));
  assert.equal(hashes[0], hashes[1]);
  assert.notEqual(hashes[0], hashes[2]);
});

test("the head's weight is the embedding transposed", () => {
  const directory = write('copy', 'bert');
  const { initializers } = readModel(join(directory, 'model.onnx'), 'model.onnx').graph;
  const embedding = floats(directory, initializers.get('bert.embeddings.word_embeddings.weight')!);
  const head = floats(directory, initializers.get('onnx::MatMul_head')!);
  for (const [row, column] of [[0, 0], [7, 3], [299, 31]] as const) assert.equal(head[column * 300 + row], embedding[row * 32 + column]); // biome-ignore format: one line
  const deviation = Math.sqrt(embedding.reduce((sum, x) => sum + x * x, 0) / embedding.length);
  assert.ok(Math.abs(deviation - 0.02) < 0.001, String(deviation));
});

test('its tokenizer spells any text', async () => {
  const tokenizer = await loadTokenizer(write('text', 'gpt2'));
  const ids = tokenizer.encode('Straße in 東京!', { afterSpace: false });
  assert.equal(tokenizer.decode(ids), 'Straße in 東京!');
  assert.ok(ids.every((id) => id < 258));
  assert.equal(tokenizer.special.mask, 1);
});
