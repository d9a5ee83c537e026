/** LMs in the Hub's cache, whose files are links into a folder of blobs beside the snapshots. */
import assert from 'node:assert/strict';
import { cpSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { importModel } from '../../src/lm/import.ts';
import { inspectDirectory } from '../../src/lm/inspect.ts';
import { checkReference } from '../../src/tuning/reference.ts';

const source = fileURLToPath(new URL('../fixtures/genai/llama-int4', import.meta.url));
const files = ['genai_config.json', 'model.onnx', 'model.onnx.data', 'reference.safetensors'];
const root = mkdtempSync(join(tmpdir(), 'ptuned-hub-'));
after(() => rmSync(root, { recursive: true }));

/** A snapshot of the fixture; a blob is called as its file backwards. */
function snapshot(name: string): { folder: string; blobs: string } {
  const blobs = join(root, `models--someone--${name}`, 'blobs');
  const folder = join(root, `models--someone--${name}`, 'snapshots', 'a1b2');
  mkdirSync(blobs, { recursive: true });
  mkdirSync(folder, { recursive: true });
  for (const file of files) {
    const blob = join(blobs, [...file].reverse().join(''));
    cpSync(join(source, file), blob);
    symlinkSync(relative(folder, blob), join(folder, file));
  }
  return { folder, blobs };
}

test('weights behind links to blobs are read where they lie', async () => {
  const { folder } = snapshot('lm');
  const { lossError, gradientError } = await checkReference(folder);
  assert.ok(lossError < 1e-5 && gradientError < 1e-5, `loss ${lossError}, gradient ${gradientError}`);
});

test('the manifest is that of the folder without links', async () => {
  const { folder } = snapshot('twin');
  const copy = join(root, 'copy');
  cpSync(source, copy, { recursive: true });
  for (const one of [folder, copy]) cpSync('demo/models/demo-gpt2/tokenizer.json', join(one, 'tokenizer.json'));
  const [linked, plain] = [await importModel(folder, { id: 'lm' }), await importModel(copy, { id: 'lm' })];
  assert.equal(linked.hash, plain.hash);
  assert.deepEqual(linked.files, plain.files);
});

const outside = { code: 'import_refused', message: /outside the model's folder/ };

test('links to the blobs of another LM, and to anywhere else, are refused', () => {
  const other = snapshot('other');
  const { folder } = snapshot('thief');
  const weights = join(folder, 'model.onnx.data');
  for (const target of [join(other.blobs, [...'model.onnx.data'].reverse().join('')), '/etc/passwd']) {
    rmSync(weights);
    symlinkSync(target, weights);
    assert.throws(() => inspectDirectory(folder), outside);
  }
});

test('a link to a blob from a folder that is no snapshot is refused', () => {
  const { blobs } = snapshot('real');
  const folder = join(root, 'plain');
  cpSync(source, folder, { recursive: true });
  rmSync(join(folder, 'model.onnx.data'));
  symlinkSync(join(blobs, [...'model.onnx.data'].reverse().join('')), join(folder, 'model.onnx.data'));
  assert.throws(() => inspectDirectory(folder), outside);
});

test('a blob behind a second link is refused', () => {
  const { folder, blobs } = snapshot('chain');
  const blob = join(blobs, [...'model.onnx.data'].reverse().join(''));
  rmSync(blob);
  writeFileSync(join(root, 'elsewhere'), '');
  symlinkSync(join(root, 'elsewhere'), blob);
  assert.throws(() => inspectDirectory(folder), outside);
});
