/** Properties of LM programs on the committed exports: reading at targets, padding, masks, sizes. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { assemble } from '../../src/lm/assemble.ts';
import { feeds } from '../../src/lm/feeds.ts';
import { type Inspected, inspectDirectory } from '../../src/lm/inspect.ts';
import { predictProgram, scoreProgram, trainProgram } from '../../src/lm/programs.ts';
import { batchFeeds, openProgram, trainerOn } from '../../src/lm/run-program.ts';
import type { LmBatch } from '../../src/lm/types.ts';
import { createSession, type Feed } from '../../src/onnx/session.ts';
import { readReference, relativeError, vocabularyCandidates } from '../../src/tuning/reference.ts';

const names = ['gpt2', 'bert', 'llama'];

function load(name: string) {
  const folder = fileURLToPath(new URL(`../fixtures/${name}`, import.meta.url));
  const lm = inspectDirectory(folder);
  const options = { threads: 1, device: 'cpu' as const, directory: lm.graphDirectory };
  return { lm, options, reference: readReference(join(folder, 'reference.safetensors')) };
}

/** Logits everywhere [batch, sequence, V]: the graph with the prompt spliced in and nothing else changed. */
function plainModel(lm: Inspected) {
  const { builder, logits } = assemble(lm, { past: 'empty' });
  builder.output(logits);
  const read = new Set(builder.graph.nodes.flatMap((node) => node.inputs));
  builder.graph.inputs = builder.graph.inputs.filter((input) => read.has(input.name));
  return { model: { ...lm.model, graph: builder.graph }, logits };
}

/** Rows cut to one row each, without padding. */
function rowAlone(batch: LmBatch, row: number): LmBatch {
  const mask = batch.mask.subarray(row * batch.length, (row + 1) * batch.length);
  const length = mask.filter((one) => one === 1n).length;
  const cut = (data: BigInt64Array) => data.slice(row * batch.length, row * batch.length + length);
  return {
    rows: 1,
    length,
    ids: cut(batch.ids),
    mask: cut(batch.mask),
    slots: cut(batch.slots),
    targets: batch.targets.slice(row, row + 1),
  };
}

for (const name of names) {
  test(`${name}: logits read at the targets are those of the whole run`, async () => {
    const { lm, options, reference } = load(name);
    const { batch, table } = await reference;
    const plain = plainModel(lm);
    const session = await createSession(plain.model, options);
    const all = batchFeeds(batch, table);
    const wanted = Object.fromEntries(session.inputs.map((input): [string, Feed] => [input, all[input]!]));
    const whole = (await session.run(wanted))[plain.logits]!;
    await session.close();
    const runner = await openProgram(predictProgram(lm), options);
    const [found] = await runner.run(all);
    await runner.close();
    const size = whole.dims[2]!;
    const expected = [...batch.targets].flatMap((target, row) => {
      const at = (row * batch.length + Number(target)) * size;
      return [...(whole.data as Float32Array).subarray(at, at + size)];
    });
    assert.ok(relativeError(found as Float32Array, expected) < 1e-6);
  });

  test(`${name}: the head is not run away from the targets`, () => {
    const { lm } = load(name);
    const { model } = predictProgram(lm);
    const { builder, logits } = assemble(lm, { past: 'empty' });
    const producer = builder.graph.nodes.find((node) => node.outputs.includes(logits))!;
    assert.ok(!model.graph.nodes.some((node) => node.outputs.includes(producer.outputs[0]!)));
  });

  test(`${name}: one session serves all shapes, and padding changes nothing`, async () => {
    const { lm, options, reference } = load(name);
    const { batch, labels, table } = await reference;
    const runner = await openProgram(trainProgram(lm, vocabularyCandidates(lm.vocabularySize)), options);
    const step = async (one: LmBatch, its: BigInt64Array) => {
      const [loss, gradient] = await runner.run(batchFeeds(one, table, its));
      return { loss: (loss as Float32Array)[0]!, gradient: gradient as Float32Array };
    };
    const together = await step(batch, labels);
    const alone: { loss: number; gradient: Float32Array }[] = [];
    for (let row = 0; row < batch.rows; row++) alone.push(await step(rowAlone(batch, row), labels.slice(row, row + 1)));
    await runner.close();
    const mean = (values: number[]) => values.reduce((sum, value) => sum + value, 0) / values.length;
    const expected = together.gradient.map((_, i) => mean(alone.map((one) => one.gradient[i]!)));
    assert.ok(relativeError([together.loss], [mean(alone.map((one) => one.loss))]) < 1e-6);
    assert.ok(relativeError(together.gradient, expected) < 1e-5);
  });

  test(`${name}: rows of several jobs in one batch get the gradient each job would get alone`, async () => {
    const { lm, options, reference } = load(name);
    const { batch, labels, table } = await reference;
    const trainer = trainerOn(await openProgram(trainProgram(lm, vocabularyCandidates(lm.vocabularySize)), options));
    // Job 0 has the first two rows and the reference's table, job 1 the last row and another table behind it.
    const other = table.values.map((value, i) => value * 0.5 + (i % 7) * 0.01);
    const offsets = [0n, 0n, BigInt(table.rows)];
    const slots = batch.slots.map((slot, i) => (slot < 0n ? slot : slot + offsets[Math.floor(i / batch.length)]!));
    const both = { rows: 2 * table.rows, width: table.width, values: Float32Array.from([...table.values, ...other]) };
    const packed = await trainer.step({ ...batch, slots }, labels, both, Float32Array.of(0.5, 0.5, 1));
    const part = (from: number, to: number): LmBatch => ({
      rows: to - from,
      length: batch.length,
      ids: batch.ids.slice(from * batch.length, to * batch.length),
      mask: batch.mask.slice(from * batch.length, to * batch.length),
      slots: batch.slots.slice(from * batch.length, to * batch.length),
      targets: batch.targets.slice(from, to),
    });
    const first = await trainer.step(part(0, 2), labels.slice(0, 2), table);
    const second = await trainer.step(part(2, 3), labels.slice(2, 3), { ...table, values: other });
    await trainer.close();
    assert.ok(relativeError(packed.gradient, [...first.gradient, ...second.gradient]) < 1e-5);
    assert.ok(relativeError(packed.losses, [...first.losses, ...second.losses]) < 1e-5);
    assert.ok(relativeError([first.loss], [(first.losses[0]! + first.losses[1]!) / 2]) < 1e-6);
  });

  test(`${name}: a row masked completely poisons nothing`, async () => {
    const { lm, options, reference } = load(name);
    const { batch, labels, table } = await reference;
    const mask = batch.mask.map((one, i) => (i < batch.length ? 0n : one));
    const runner = await openProgram(trainProgram(lm, vocabularyCandidates(lm.vocabularySize)), options);
    const [loss, gradient] = await runner.run(batchFeeds({ ...batch, mask }, table, labels));
    await runner.close();
    assert.ok([...(loss as Float32Array), ...(gradient as Float32Array)].every(Number.isFinite));
    assert.ok((gradient as Float32Array).some((value) => value !== 0));
  });

  test(`${name}: scores of a few candidates agree with the whole vocabulary's`, async () => {
    const { lm, options, reference } = load(name);
    const { batch, table } = await reference;
    const predictor = await openProgram(predictProgram(lm), options);
    const logits = (await predictor.run(batchFeeds(batch, table)))[0] as Float32Array;
    await predictor.close();
    // Two tokens each: the second candidate averages tokens 9 and 4, the first and third have one.
    const candidates = {
      count: 3,
      width: 2,
      ids: Int32Array.of(7, 0, 9, 4, 11, 0),
      weights: Float32Array.of(1, 0, 0.5, 0.5, 1, 0),
      names: [],
    };
    const scorer = await openProgram(scoreProgram(lm, candidates), options);
    const labels = BigInt64Array.of(0n, 1n, 2n);
    const [loss, rank, best] = await scorer.run(batchFeeds(batch, table, labels));
    await scorer.close();
    for (let row = 0; row < batch.rows; row++) {
      const at = (token: number) => logits[row * lm.vocabularySize + token]!;
      const scores = [at(7), (at(9) + at(4)) / 2, at(11)];
      const right = scores[row]!;
      const total = Math.log(scores.reduce((sum, score) => sum + Math.exp(score), 0));
      assert.ok(Math.abs((loss as Float32Array)[row]! - (total - right)) < 1e-5);
      assert.equal((rank as Int32Array)[row], scores.filter((score, i) => i !== row && score >= right).length);
      assert.equal(Number((best as BigInt64Array)[row]), scores.indexOf(Math.max(...scores)));
    }
  });
}

test('only feeds that the graph reads are declared', () => {
  const { lm } = load('llama');
  const declared = predictProgram(lm).model.graph.inputs.map((input) => input.name);
  assert.ok(!declared.includes(feeds.labels) && declared.includes(feeds.targets));
});
