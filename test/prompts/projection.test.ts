/** PEFT's PrefixEncoder with prefix_projection: its table, and its gradient through a whole LM, as PyTorch has them. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { readSafetensors } from '../../src/artifacts/safetensors.ts';
import { inspectDirectory } from '../../src/lm/inspect.ts';
import { trainProgram } from '../../src/lm/programs.ts';
import { openProgram, trainerOn } from '../../src/lm/run-program.ts';
import { wholeGradient } from '../../src/prompts/gradients.ts';
import { openEncoder } from '../../src/prompts/open.ts';
import type { EncoderShape, Parameters } from '../../src/prompts/types.ts';
import { relativeError, vocabularyCandidates } from '../../src/tuning/reference.ts';

for (const name of ['gpt2', 'llama']) {
  test(`${name}: a projected prefix and its gradients as PyTorch's`, async () => {
    const folder = fileURLToPath(new URL(`../fixtures/past/${name}`, import.meta.url));
    const tensors = await readSafetensors(join(folder, 'reference.safetensors'));
    const get = (key: string) => tensors.get(key)!;
    const floats = (key: string) => get(key).data as Float32Array;
    const longs = (key: string) => get(key).data as BigInt64Array;
    const parameters: Parameters = new Map();
    for (const [key, { shape, data }] of tensors) {
      const own = key.split('projection.parameter.')[1];
      if (own !== undefined) parameters.set(own, { shape, values: data as Float32Array });
    }
    const [virtualTokens, width] = get('projection.table').shape as [number, number];
    const [hidden, embedding] = parameters.get('transform.0.weight')!.shape as [number, number];
    const projection = { embedding, hidden };
    const shape: EncoderShape = { type: 'projection', layers: 1, virtualTokens, width, base: null, projection };
    const encoder = await openEncoder(shape, { threads: 1 });
    const table = await encoder.forward(parameters);
    assert.ok(relativeError(table, floats('projection.table')) < 1e-6);

    const lm = inspectDirectory(folder);
    const program = trainProgram(lm, vocabularyCandidates(lm.vocabularySize), 'past');
    const trainer = trainerOn(await openProgram(program, { threads: 1, device: 'cpu', directory: lm.graphDirectory }));
    const [rows, length] = get('input_ids').shape as [number, number];
    const slots = new BigInt64Array(rows * length).fill(-1n);
    const [ids, mask, targets] = [longs('input_ids'), longs('attention_mask'), longs('target_position')];
    const batch = { rows, length, ids, mask, slots, targets };
    const { loss, gradient } = await trainer.step(batch, longs('label'), { rows: virtualTokens, width, values: table });
    assert.ok(relativeError([loss], floats('projection.loss')) < 1e-5);
    const gradients = await encoder.gradient(parameters, gradient);
    assert.deepEqual([...gradients.keys()].sort(), [...parameters.keys()].sort());
    for (const [key, found] of gradients) {
      const error = relativeError(wholeGradient(found), floats(`projection.gradient.${key}`));
      assert.ok(error < 1e-4, `${key}: ${error}`);
    }
    await trainer.close();
    await encoder.close();
  });
}

test('beside words a projection starts at them', async () => {
  const base = Float32Array.from({ length: 2 * 12 }, (_, i) => i);
  const projection = { embedding: 4, hidden: 3 };
  const shape: EncoderShape = { type: 'projection', layers: 1, virtualTokens: 2, width: 12, base, projection };
  const encoder = await openEncoder(shape, { threads: 1 });
  assert.deepEqual(await encoder.forward(encoder.initialise(5)), base);
  await encoder.close();
});
