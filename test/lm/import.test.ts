/** Import of an LM: what is found, and what is refused with which words. */
import assert from 'node:assert/strict';
import { cpSync, mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { PtunedError } from '../../src/errors.ts';
import { importModel } from '../../src/lm/import.ts';
import { decodeModel, readModel } from '../../src/onnx/decode.ts';
import { encodeModel } from '../../src/onnx/encode.ts';
import { isExternal, type Model } from '../../src/onnx/ir.ts';

const scratch = mkdtempSync(join(tmpdir(), 'ptuned-import-'));
after(() => rmSync(scratch, { recursive: true, force: true }));

let copies = 0;
/** A copy of a shipped LM that a test may spoil. */
function copyOf(name: 'demo-bert' | 'demo-gpt2'): string {
  const folder = join(scratch, `${name}-${copies++}`);
  cpSync(join('demo/models', name), folder, { recursive: true });
  return folder;
}

/** Rewrites the copy's graph. */
function change(folder: string, edit: (model: Model) => void): void {
  const path = join(folder, 'model.onnx');
  const model = decodeModel(readFileSync(path), 'model.onnx');
  edit(model);
  writeFileSync(path, encodeModel(model));
}

async function refusal(folder: string): Promise<PtunedError> {
  try {
    await importModel(folder);
  } catch (error) {
    assert.ok(error instanceof PtunedError, String(error));
    return error;
  }
  throw new Error('the import was not refused');
}

test('the shipped LMs are imported with everything a job needs to know', async () => {
  const bert = await importModel('demo/models/demo-bert');
  assert.equal(bert.kind, 'masked');
  assert.equal(bert.id, 'demo-bert');
  assert.equal(bert.maxLength, 64);
  assert.equal(bert.vocabularySize, 2921);
  assert.equal(bert.embedding.width, 128);
  assert.notEqual(bert.specialTokens.mask, null);
  assert.match(bert.hash, /^[0-9a-f]{64}$/);
  assert.equal(bert.gradientPath.Softmax, 3);
  const gpt2 = await importModel('demo/models/demo-gpt2', { id: 'other-name' });
  assert.deepEqual([gpt2.kind, gpt2.id, gpt2.vocabularySize], ['causal', 'other-name', 3072]);
});

test('weights stay in the file: the graph that is read refers to them by offset', () => {
  const model = readModel('demo/models/demo-bert/model.onnx', 'model.onnx');
  const external = [...model.graph.initializers.values()].filter((tensor) => isExternal(tensor.data));
  assert.ok(external.length > 20);
});

test('an op without a gradient rule is refused with op and node', async () => {
  const folder = copyOf('demo-bert');
  change(folder, ({ graph }) => {
    const node = graph.nodes.find((one) => one.op === 'Erf')!;
    node.op = 'Frobnicate';
  });
  const error = await refusal(folder);
  assert.equal(error.code, 'unsupported_op');
  assert.match(error.message, /Frobnicate ".*Erf/);
  assert.match(error.message, /opset 18/);
});

test('a weight file that is missing, or too short, is named', async () => {
  const folder = copyOf('demo-bert');
  change(folder, ({ graph }) => {
    for (const tensor of graph.initializers.values()) {
      if (tensor.data instanceof Uint8Array && tensor.data.length > 100_000) {
        tensor.data = { location: 'weights.bin', offset: 0, length: tensor.data.length };
        break;
      }
    }
  });
  const missing = await refusal(folder);
  assert.equal(missing.code, 'missing_file');
  assert.match(missing.message, /weights\.bin/);
  writeFileSync(join(folder, 'weights.bin'), 'short');
  const short = await refusal(folder);
  assert.equal(short.code, 'damaged_model');
  assert.match(short.message, /weights\.bin.* 5 bytes/);
});

test('external data outside the folder is refused', async () => {
  const folder = copyOf('demo-bert');
  change(folder, ({ graph }) => {
    const [tensor] = graph.initializers.values();
    tensor!.data = { location: '../../etc/passwd', offset: 0, length: 4 };
  });
  const error = await refusal(folder);
  assert.match(error.message, /passwd/);
});

test('a damaged protobuf is refused with the file named', async () => {
  const folder = copyOf('demo-gpt2');
  truncateSync(join(folder, 'model.onnx'), 2_000_000);
  const cut = await refusal(folder);
  assert.equal(cut.code, 'damaged_model');
  assert.match(cut.message, /model\.onnx/);
  writeFileSync(join(folder, 'model.onnx'), 'this is no protobuf');
  assert.equal((await refusal(folder)).code, 'damaged_model');
});

test('missing files and foreign architectures are refused by name', async () => {
  const folder = copyOf('demo-gpt2');
  rmSync(join(folder, 'tokenizer.json'));
  assert.match((await refusal(folder)).message, /tokenizer\.json/);
  const other = copyOf('demo-gpt2');
  writeFileSync(join(other, 'config.json'), JSON.stringify({ architectures: ['BertForSequenceClassification'] }));
  assert.match((await refusal(other)).message, /BertForSequenceClassification/);
  rmSync(join(other, 'config.json'));
  assert.match((await refusal(other)).message, /config\.json/);
  assert.match((await refusal(join(scratch, 'nowhere'))).message, /nowhere/);
});
