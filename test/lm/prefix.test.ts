/** Keys and values before the first token: loss and gradient against PyTorch's and finite differences. */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { readSafetensors } from '../../src/artifacts/safetensors.ts';
import { type Inspected, inspectDirectory } from '../../src/lm/inspect.ts';
import { scoreProgram, trainProgram } from '../../src/lm/programs.ts';
import { batchFeeds, openProgram } from '../../src/lm/run-program.ts';
import type { LmBatch, PromptTable } from '../../src/lm/types.ts';
import { prefixWidth, refusePrefix } from '../../src/models/past.ts';
import { relativeError, vocabularyCandidates } from '../../src/tuning/reference.ts';

const fixture = (name: string) => fileURLToPath(new URL(`../fixtures/${name}`, import.meta.url));

async function load(name: string) {
  const folder = fixture(`past/${name}`);
  const tensors = await readSafetensors(join(folder, 'reference.safetensors'));
  const floats = (key: string) => tensors.get(key)!.data as Float32Array;
  const longs = (key: string) => tensors.get(key)!.data as BigInt64Array;
  const [rows, length] = tensors.get('input_ids')!.shape as [number, number];
  const batch: LmBatch = {
    rows,
    length,
    ids: longs('input_ids'),
    mask: longs('attention_mask'),
    slots: new BigInt64Array(rows * length).fill(-1n),
    targets: longs('target_position'),
  };
  const [n, width] = tensors.get('prefix')!.shape as [number, number];
  const tableOf = (values: Float32Array): PromptTable => ({ rows: n, width, values });
  return { lm: inspectDirectory(folder), batch, labels: longs('label'), n, width, tableOf, floats, tensors };
}

async function openStep(lm: Inspected, batch: LmBatch, labels: BigInt64Array) {
  const program = trainProgram(lm, vocabularyCandidates(lm.vocabularySize), 'past');
  const runner = await openProgram(program, { threads: 1, device: 'cpu', directory: lm.graphDirectory });
  return {
    async step(table: PromptTable, one = batch, its = labels) {
      const [loss, gradient] = await runner.run(batchFeeds(one, table, its));
      return { loss: (loss as Float32Array)[0]!, gradient: gradient as Float32Array };
    },
    close: runner.close,
  };
}

for (const name of ['gpt2', 'llama']) {
  for (const redundant of [undefined, 'padding', 'prefixes'] as const)
    test(`${name}: loss and gradient of a prefix as PyTorch's, left out of the batch: ${redundant ?? 'nothing'}`, async () => {
      const { lm, batch, labels, tableOf, floats, width } = await load(name);
      assert.equal(width, prefixWidth(lm.inputs));
      const runner = await openStep({ ...lm, redundant }, batch, labels);
      const { loss, gradient } = await runner.step(tableOf(floats('prefix')));
      await runner.close();
      assert.ok(relativeError([loss], floats('loss')) < 1e-5, `loss ${loss}`);
      const error = relativeError(gradient, floats('prefix_gradient'));
      assert.ok(error < 1e-4, `gradient ${error}`);
    });

  test(`${name}: the gradient of a prefix is the slope of the loss`, async () => {
    const { lm, batch, labels, tableOf, floats } = await load(name);
    const runner = await openStep(lm, batch, labels);
    const values = floats('prefix');
    const { gradient } = await runner.step(tableOf(values));
    // Along directions, so that float32's rounding stays small beside the difference.
    for (let seed = 0; seed < 4; seed++) {
      const direction = values.map((_, i) => Math.sin(1.3 * i + seed));
      const at = async (h: number) => (await runner.step(tableOf(values.map((v, i) => v + h * direction[i]!)))).loss;
      const h = 1e-2;
      const slope = (8 * ((await at(h)) - (await at(-h))) - ((await at(2 * h)) - (await at(-2 * h)))) / (12 * h);
      const expected = gradient.reduce((sum, g, i) => sum + g * direction[i]!, 0);
      assert.ok(Math.abs(slope - expected) < 2e-3 * Math.max(0.1, Math.abs(expected)), `${slope} for ${expected}`);
    }
    await runner.close();
  });

  test(`${name}: scores behind a prefix have the loss of the training step`, async () => {
    const { lm, batch, labels, tableOf, floats } = await load(name);
    const program = scoreProgram(lm, vocabularyCandidates(lm.vocabularySize), 'past');
    const scorer = await openProgram(program, { threads: 1, device: 'cpu', directory: lm.graphDirectory });
    const [losses] = await scorer.run(batchFeeds(batch, tableOf(floats('prefix')), labels));
    await scorer.close();
    const mean = [...(losses as Float32Array)].reduce((sum, loss) => sum + loss, 0) / batch.rows;
    assert.ok(relativeError([mean], floats('loss')) < 1e-5);
  });

  test(`${name}: a prefix of any length trains in one session, and padding changes nothing`, async () => {
    const { lm, batch, labels, width, floats } = await load(name);
    const runner = await openStep(lm, batch, labels);
    const table = { rows: 2, width, values: floats('prefix').slice(0, 2 * width) };
    const together = await runner.step(table);
    const cut = (data: BigInt64Array, row: number, length: number) =>
      data.slice(row * batch.length, row * batch.length + length);
    let loss = 0;
    const gradient = new Float32Array(2 * width);
    for (let row = 0; row < batch.rows; row++) {
      const length = Number(batch.targets[row]) + 1;
      const alone: LmBatch = {
        rows: 1,
        length,
        ids: cut(batch.ids, row, length),
        mask: cut(batch.mask, row, length),
        slots: cut(batch.slots, row, length),
        targets: batch.targets.slice(row, row + 1),
      };
      const one = await runner.step(table, alone, labels.slice(row, row + 1));
      loss += one.loss / batch.rows;
      for (let i = 0; i < gradient.length; i++) gradient[i]! += one.gradient[i]! / batch.rows;
    }
    await runner.close();
    assert.ok(relativeError([together.loss], [loss]) < 1e-6);
    assert.ok(relativeError(together.gradient, gradient) < 1e-5);
  });
}

test('an LM that has no place for a prefix is refused with what to do', () => {
  const of = (name: string) => {
    const { config, inputs } = inspectDirectory(fixture(name));
    return refusePrefix({ id: name, kind: config.kind, inputs: [...inputs] });
  };
  assert.equal(of('past/gpt2'), null);
  assert.match(of('gpt2')!, /no past_key_values inputs.*--task text-generation-with-past/);
  assert.match(of('bert')!, /"bert" is a masked LM.*text-generation-with-past/);
  const { inputs } = inspectDirectory(fixture('past/llama'));
  const without = inputs.filter(({ role }) => role !== 'position_ids');
  assert.match(refusePrefix({ id: 'x', kind: 'causal', inputs: without })!, /no input position_ids/);
});

const shared = fileURLToPath(new URL('../../../shared/fixtures', import.meta.url));
for (const name of ['gpt2-past', 'llama-past']) {
  const skip = existsSync(join(shared, name)) ? false : `${shared} is not on this machine`;
  test(`${name}: a prefix has a finite gradient that is not zero`, { skip }, async () => {
    const lm = inspectDirectory(join(shared, name));
    const width = prefixWidth(lm.inputs);
    const ids = BigInt64Array.of(5n, 6n, 7n, 8n, 9n, 10n);
    const mask = new BigInt64Array(6).fill(1n);
    const slots = new BigInt64Array(6).fill(-1n);
    const batch = { rows: 2, length: 3, ids, mask, slots, targets: BigInt64Array.of(2n, 2n) };
    const runner = await openStep(lm, batch, BigInt64Array.of(3n, 4n));
    const values = Float32Array.from({ length: 5 * width }, (_, i) => Math.sin(i));
    const { gradient } = await runner.step({ rows: 5, width, values });
    await runner.close();
    assert.ok(gradient.every(Number.isFinite) && gradient.some((value) => value !== 0));
  });
}
