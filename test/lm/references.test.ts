/** Whole LMs against PyTorch: loss, prompt gradient, and where recorded the losses of a training run. */
import assert from 'node:assert/strict';
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { checkReference } from '../../src/tuning/reference.ts';

const committed = fileURLToPath(new URL('../fixtures', import.meta.url));
const shared = fileURLToPath(new URL('../../../shared/fixtures', import.meta.url));

/** Folders with a recorded result. */
function references(folder: string): string[] {
  const names = readdirSync(folder).sort();
  return names.filter((name) => existsSync(join(folder, name, 'reference.safetensors')));
}

function check(folder: string, name: string): void {
  test(`${name}: loss and prompt gradient as PyTorch's`, async () => {
    const limit = /fp16|bf16/.test(name) ? 3e-2 : 1e-4;
    const { lossError, gradientError, trajectoryError } = await checkReference(join(folder, name));
    assert.ok(lossError < limit, `relative error of the loss ${lossError}`);
    assert.ok(gradientError < limit, `relative error of the gradient ${gradientError}`);
    assert.ok((trajectoryError ?? 0) < limit, `relative error of the training losses ${trajectoryError}`);
  });
}

test('the committed references are there', () =>
  assert.deepEqual(references(committed), ['bert', 'gpt2', 'llama', 't5']));

for (const name of references(committed)) check(committed, name);

/** Weights and activations as onnxruntime's tools quantize them, see make_quantized.py. */
const quantized = join(committed, 'quantized');
test('the committed quantized references are there', () =>
  assert.deepEqual(references(quantized), [
    'bert-dynamic',
    'gpt2-channel',
    'llama-int4',
    'llama-nf4',
    'llama-qdq4',
    'llama-uint4',
  ]));

for (const name of references(quantized)) check(quantized, name);

/** Weights in half precision, with which a CPU computes in float32, see make_halves.py. */
const halves = join(committed, 'halves');
test('the committed references in half precision are there', () =>
  assert.deepEqual(references(halves), ['llama-bfloat16', 'llama-int4']));

for (const name of references(halves)) check(halves, name);

/** As onnxruntime-genai's model builder writes them, see make_genai.py. */
const genai = join(committed, 'genai');
test('the committed references of genai are there', () =>
  assert.deepEqual(references(genai), ['gemma-fp32', 'gemma-int4', 'llama-fp16', 'llama-int4']));

for (const name of references(genai)) check(genai, name);

if (existsSync(shared)) {
  for (const name of references(shared)) check(shared, name);
} else {
  test('larger set of exported LMs', { skip: `${shared} is not on this machine` }, () => {});
}
