/** Folders with several graphs, as transformers.js and Optimum leave them: which one is the LM. */
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, test } from 'node:test';
import type { PtunedError } from '../../src/errors.ts';
import { beside, chooseGraph, otherGraphs } from '../../src/lm/graph-file.ts';

const root = mkdtempSync(join(tmpdir(), 'ptuned-graphs-'));
after(() => rmSync(root, { recursive: true }));
let folders = 0;

function folderWith(...files: string[]): string {
  const folder = join(root, String(folders++));
  for (const file of files) {
    mkdirSync(dirname(join(folder, file)), { recursive: true });
    writeFileSync(join(folder, file), '');
  }
  return folder;
}

const quantized = ['onnx/model_q4.onnx', 'onnx/model_fp16.onnx', 'onnx/model_quantized.onnx'];

test('full precision is the default', () => {
  const folder = folderWith('onnx/model.onnx', ...quantized);
  assert.deepEqual(chooseGraph(folder, 'causal'), { path: 'onnx/model.onnx', variant: '' });
  assert.deepEqual(otherGraphs(folder, 'causal').sort(), ['onnx/model.onnx', ...quantized].sort());
});

test('the only variant is taken', () =>
  assert.deepEqual(chooseGraph(folderWith('onnx/model_q4f16.onnx'), 'masked'), {
    path: 'onnx/model_q4f16.onnx',
    variant: '_q4f16',
  }));

test('a single file of any name is taken', () =>
  assert.equal(chooseGraph(folderWith('phi.onnx', 'README.md'), 'causal').path, 'phi.onnx'));

test('of several variants the refusal lists them', () => {
  const folder = folderWith(...quantized);
  assert.throws(
    () => chooseGraph(folder, 'causal'),
    (error: PtunedError) =>
      error.code === 'import_refused' &&
      error.param === 'graph' &&
      quantized.every((path) => error.message.includes(path)) &&
      error.message.includes('--graph FILE'),
  );
  assert.deepEqual(chooseGraph(folder, 'causal', 'onnx/model_q4.onnx'), { path: 'onnx/model_q4.onnx', variant: '_q4' });
});

test('of one variant the merged decoder counts, and neither encoder nor decoder with past', () => {
  const names = ['encoder_model', 'decoder_model', 'decoder_with_past_model', 'decoder_model_merged', 'embed_tokens'];
  const folder = folderWith(...names.map((name) => `onnx/${name}_q4.onnx`));
  const choice = chooseGraph(folder, 'seq2seq');
  assert.deepEqual(choice, { path: 'onnx/decoder_model_merged_q4.onnx', variant: '_q4' });
  assert.deepEqual(beside(choice, ['encoder_model']), ['onnx/encoder_model_q4.onnx', 'onnx/encoder_model.onnx']);
});

test('what genai_config.json names comes first', () => {
  const folder = folderWith('model.onnx', 'cpu-int4.onnx');
  assert.equal(chooseGraph(folder, 'causal', undefined, 'cpu-int4.onnx').path, 'cpu-int4.onnx');
});

for (const wanted of ['../model.onnx', '/etc/passwd', 'onnx/../../x.onnx', 'config.json', 'onnx/other.onnx']) {
  test(`"${wanted}" is refused with what there is`, () => {
    const folder = folderWith('onnx/model_q4.onnx', 'config.json');
    assert.throws(() => chooseGraph(folder, 'causal', wanted), {
      code: 'missing_file',
      param: 'graph',
      message: /there are onnx\/model_q4\.onnx \(0\.0 MiB\)/,
    });
  });
}

test('a folder without a graph says what is looked for', () =>
  assert.throws(() => chooseGraph(folderWith('config.json'), 'masked'), {
    code: 'missing_file',
    message: /neither model\.onnx nor onnx\/model\.onnx/,
  }));
