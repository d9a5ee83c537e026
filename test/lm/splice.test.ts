/** The way back to the table: what only pseudo tokens need is computed at these alone, and the gradient stays the same. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Inspected } from '../../src/lm/inspect.ts';
import { trainProgram } from '../../src/lm/programs.ts';
import type { LmBatch } from '../../src/lm/types.ts';
import { shapeText } from '../../src/onnx/dim.ts';
import { relativeError, vocabularyCandidates } from '../../src/tuning/reference.ts';
import { loadFixture, logitsAndGradient, unevenBatch } from '../support/extent.ts';

async function gradientOf(lm: Inspected, batch: LmBatch, pseudoTokens: boolean): Promise<Float32Array> {
  return (await logitsAndGradient(lm, batch, { targets: null, pseudoTokens })).gradient;
}

for (const [name, redundant] of [
  ['gpt2', 'prefixes'],
  ['gpt2', undefined],
  ['llama', 'prefixes'],
  ['bert', 'padding'],
  ['bert', undefined],
] as const) {
  const lm = () => ({ ...loadFixture(name), redundant });

  test(`${name}, ${redundant ?? 'every token'}: the gradient is the one that goes back through all tokens`, async () => {
    const found = await gradientOf(lm(), unevenBatch(), true);
    const expected = await gradientOf(lm(), unevenBatch(), false);
    assert.equal(found.length, 4 * lm().embedding.width);
    assert.ok(relativeError(found, expected) < 1e-6);
    assert.ok(found.some((value) => value !== 0));
    // No slot has the last row of the table.
    assert.ok(found.subarray(3 * lm().embedding.width).every((value) => value === 0));
  });

  test(`${name}, ${redundant ?? 'every token'}: a batch without pseudo tokens has the gradient 0`, async () => {
    const batch = unevenBatch();
    const found = await gradientOf(lm(), { ...batch, slots: batch.slots.map(() => -1n) }, true);
    assert.ok(found.length > 0 && found.every((value) => value === 0));
  });

  test(`${name}, ${redundant ?? 'every token'}: the last products before the table see pseudo tokens alone`, () => {
    const { graph } = trainProgram(lm(), vocabularyCandidates(lm().vocabularySize)).model;
    const shapes = new Map(graph.values!.map((value) => [value.name, shapeText(value.shape)]));
    const narrow = graph.nodes.filter(
      (node) =>
        node.op === 'FusedMatMul' &&
        graph.initializers.has(node.inputs[1]!) &&
        /^\[(1, )?pseudo_tokens, /.test(shapes.get(node.outputs[0]!)!),
    );
    assert.equal(narrow.length, name === 'gpt2' ? 1 : 3);
  });
}
