/** The last attention has the queries of targets alone; logits and gradient stay the same. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { trainProgram } from '../../src/lm/programs.ts';
import { shapeText } from '../../src/onnx/dim.ts';
import { relativeError, vocabularyCandidates } from '../../src/tuning/reference.ts';
import { loadFixture, logitsAndGradient, unevenBatch } from '../support/extent.ts';

/** Of T5 the decoder's own attention and the one to the text. */
const cases = [
  ['gpt2', 'prefixes', 1],
  ['gpt2', undefined, 1],
  ['llama', 'prefixes', 1],
  ['llama', undefined, 1],
  ['bert', 'padding', 1],
  ['bert', undefined, 1],
  ['t5', 'padding', 2],
  ['t5', undefined, 2],
] as const;

for (const [name, redundant, attentions] of cases) {
  const lm = () => ({ ...loadFixture(name), redundant });
  const every = redundant ?? 'every token';

  test(`${name}, ${every}: logits and gradient are those of all queries`, async () => {
    const answer = { length: 3, ids: BigInt64Array.of(0n, 7n, 8n, 0n, 7n, 9n, 0n, 8n, 8n) };
    const seq2seq = { decoder: answer, targets: BigInt64Array.of(2n, 0n, 1n) };
    const batch = { ...unevenBatch(), ...(name === 't5' ? seq2seq : {}) };
    const [found, expected] = await Promise.all(
      [true, false].map((queries) => logitsAndGradient(lm(), batch, { targets: { queries }, pseudoTokens: true })),
    );
    assert.equal(found!.logits.length, 3 * lm().vocabularySize);
    assert.ok(relativeError(found!.logits, expected!.logits) < 1e-6);
    assert.ok(relativeError(found!.gradient, expected!.gradient) < 1e-6);
    assert.ok(found!.gradient.some((value) => value !== 0));
  });

  test(`${name}, ${every}: a step has one query a row in the last layer, and no product for the others`, () => {
    const { graph } = trainProgram(lm(), vocabularyCandidates(lm().vocabularySize)).model;
    const shapes = new Map(graph.values!.map((value) => [value.name, shapeText(value.shape)]));
    const scores = graph.nodes.flatMap((node) => (node.op === 'Softmax' ? [shapes.get(node.outputs[0]!)!] : []));
    assert.equal(scores.filter((shape) => /^\[batch, 2, 1, /.test(shape)).length, attentions, scores.join(' '));
    // Targets are picked in front of the projection: of its result nothing is picked.
    const picks = graph.nodes.filter((node) => node.op === 'GatherND' || node.op === 'GatherElements');
    const picked = picks.map((node) => shapes.get(node.outputs[0]!)!);
    assert.ok(!picked.some((shape) => /^\[batch, (1, 2|2, 1), 8\]$/.test(shape)), picked.join(' '));
  });
}

test('gpt2: queries, keys and values of the last layer have products of their own', () => {
  const lm = loadFixture('gpt2');
  const { graph } = trainProgram(lm, vocabularyCandidates(lm.vocabularySize)).model;
  const shapes = new Map(graph.values!.map((value) => [value.name, shapeText(value.shape)]));
  const parts = graph.nodes.filter((node) => node.op === 'Slice' && graph.initializers.has(node.inputs[0]!));
  const readers = (name: string) => graph.nodes.filter((node) => node.op === 'Gemm' && node.inputs[1] === name);
  const products = parts.flatMap((part) => readers(part.outputs[0]!)).map((node) => shapes.get(node.outputs[0]!));
  assert.deepEqual(products.sort(), ['[batch*sequence, 16]', '[batch*sequence, 16]', '[batch, 16]']);
  // The first layer needs all of them at all tokens.
  assert.equal(graph.nodes.filter((node) => node.op === 'Split').length, 1);
});
