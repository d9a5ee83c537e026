/** Scores of few candidates do not compute the logits of all tokens, and are the same. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { inspectDirectory } from '../../src/lm/inspect.ts';
import { type Program, predictProgram, scoreProgram, trainProgram } from '../../src/lm/programs.ts';
import { batchFeeds, openProgram } from '../../src/lm/run-program.ts';
import type { LmBatch } from '../../src/lm/types.ts';
import { createBuilder } from '../../src/onnx/builder.ts';
import { inferNode } from '../../src/ops/registry.ts';
import { relativeError } from '../../src/tuning/reference.ts';

const ids = [7, 3, 3, 41, 40];
const candidates = {
  count: ids.length,
  width: 1,
  ids: Int32Array.from(ids),
  weights: new Float32Array(ids.length).fill(1),
  names: [],
};

const batch: LmBatch = {
  rows: 2,
  length: 4,
  ids: BigInt64Array.of(5n, 20n, 21n, 22n, 5n, 30n, 31n, 32n),
  mask: new BigInt64Array(8).fill(1n),
  slots: BigInt64Array.of(0n, -1n, -1n, -1n, 0n, -1n, -1n, -1n),
  targets: BigInt64Array.of(3n, 2n),
};

for (const [folder, redundant] of [
  ['gpt2', 'prefixes'],
  ['gpt2', undefined],
  ['bert', 'padding'],
  ['llama', 'prefixes'],
  ['quantized/llama-int4', undefined],
] as const) {
  test(`${folder}, ${redundant ?? 'every token'}: candidates alone`, async () => {
    const lm = { ...inspectDirectory(fileURLToPath(new URL(`../fixtures/${folder}`, import.meta.url))), redundant };
    const options = { threads: 1, device: 'cpu' as const, directory: lm.graphDirectory };
    const { width } = lm.embedding;
    const table = { rows: 1, width, values: Float32Array.from({ length: width }, (_, i) => 0.2 * Math.sin(i)) };
    const all = batchFeeds(batch, table, BigInt64Array.of(0n, 3n));
    const run = async (program: Program) => {
      const runner = await openProgram(program, options);
      const results = await runner.run(all);
      await runner.close();
      return results.map((values) => Array.from(values, Number));
    };
    const [logits] = (await run(predictProgram(lm))) as [number[]];
    const rows = [0, 1].map((row) => ids.map((id) => logits[row * lm.vocabularySize + id]!));
    const losses = rows.map((row, i) => {
      const sum = row.reduce((total, value) => total + Math.exp(value), 0);
      return Math.log(sum) - row[[0, 3][i]!]!;
    });
    const score = scoreProgram(lm, candidates);
    assert.ok(relativeError((await run(score))[0]!, losses) < 1e-5);
    const train = trainProgram(lm, candidates);
    assert.ok(relativeError((await run(train))[2]!, losses) < 1e-5);
    if (folder.startsWith('quantized')) return;
    // The products as wide as the vocabulary of the whole logits, less the head's own.
    const wide = (program: Program) => {
      const builder = createBuilder({ ...program.model.graph, nodes: [...program.model.graph.nodes] }, inferNode);
      const products = builder.graph.nodes.filter((node) => node.op === 'MatMul' || node.op === 'Gemm');
      return products.filter((node) => builder.shape(node.outputs[0]!).at(-1) === lm.vocabularySize).length;
    };
    assert.equal(wide(score), wide(predictProgram(lm)) - 1);
  });
}
