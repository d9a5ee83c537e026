/** `models inspect`: what a folder holds, read in a child process. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { preflightInspection } from '../../src/models/preflight.ts';
import { decodeModel } from '../../src/onnx/decode.ts';
import { encodeModel } from '../../src/onnx/encode.ts';

const at = (path: string) => fileURLToPath(new URL(`../../${path}`, import.meta.url));
const bert = at('demo/models/demo-bert');
const scratch = mkdtempSync(join(tmpdir(), 'ptuned-inspection-'));
after(() => rmSync(scratch, { recursive: true }));

test('tells what decides about training', async () => {
  const found = await preflightInspection(bert, { batch: 8, length: 32 });
  assert.equal(found.kind, 'masked');
  assert.equal(found.precision.float32, found.parameters);
  assert.equal(found.gradientPath.Softmax, 3);
  assert.deepEqual([found.missing, found.straightThrough], [{}, []]);
  assert.deepEqual(found.opsets, { 'ai.onnx': 18 });
  assert.match(found.exporter, /pytorch/);
  assert.equal(found.embedding.width, 128);
  assert.equal(found.maxLength, 64);
});

test('a row longer than the LM takes is refused with what it takes', async () => {
  await assert.rejects(preflightInspection(bert, { batch: 1, length: 65 }), {
    code: 'invalid_request',
    message: '--length is 65; this LM takes at most 64 tokens, pseudo tokens included.',
  });
});

test('memory grows with the batch and not with the weights', async () => {
  const [small, large] = await Promise.all([8, 16].map((batch) => preflightInspection(bert, { batch, length: 64 })));
  assert.equal(small!.memory!.weights, large!.memory!.weights);
  assert.ok(small!.memory!.weights >= small!.weightBytes);
  const ratio = large!.memory!.activations / small!.memory!.activations;
  assert.ok(ratio > 1.7 && ratio < 2.05, `twice the batch takes ${ratio} times the activations`);
  // Of every layer at least its MLP's two wide values are kept for the way back.
  assert.ok(small!.memory!.activations > 3 * 2 * 8 * 64 * 4 * 128 * 4);
  assert.equal(small!.memory!.unknown, 0);
});

test('an LM that rounds says which ops pass their gradient straight through', async () => {
  const found = await preflightInspection(at('test/fixtures/quantized/gpt2-channel'), { batch: 2, length: 8 });
  assert.deepEqual(found.straightThrough.sort(), ['DynamicQuantizeLinear', 'MatMulInteger']);
  assert.equal(found.embedding.dtype, 'uint8');
});

test('packed weights count as many parameters as they hold', async () => {
  const [plain, packed] = await Promise.all(
    ['llama', 'quantized/llama-int4'].map((name) =>
      preflightInspection(at(`test/fixtures/${name}`), { batch: 2, length: 8 }),
    ),
  );
  assert.equal(packed!.embedding.op, 'com.microsoft.GatherBlockQuantized');
  assert.equal(packed!.precision['4 bits']! + packed!.precision.int4!, 6144);
  assert.ok(Math.abs(packed!.parameters - plain!.parameters) < 0.02 * plain!.parameters);
  assert.ok(packed!.weightBytes < 0.4 * plain!.weightBytes);
});

test('a missing rule is reported with its node, on the command line too', async () => {
  cpSync(bert, scratch, { recursive: true });
  const model = decodeModel(readFileSync(join(bert, 'model.onnx')), 'model.onnx');
  for (const node of model.graph.nodes) if (node.op === 'Erf') node.op = 'Unheard';
  writeFileSync(join(scratch, 'model.onnx'), encodeModel(model));
  const ptuned = ['--import', 'tsx', at('workers/ptuned.ts'), 'models', 'inspect', scratch, '--batch', '2'];
  const { stdout } = await promisify(execFile)(process.execPath, ptuned);
  assert.match(stdout, /missing rules +Unheard, as at Unheard "\/bert\/encoder\/layer\.\d/);
  assert.match(stdout, /memory +not known/);
});
