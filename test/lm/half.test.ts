/**
 * Graphs kept in half precision, as a GPU runs them. Here the CPU runs them, with the kernels it has for float16 and casts
 * around the others: structure and arithmetic are the GPU's, the kernels are not.
 */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { families } from '../../scripts/lms/registry.ts';
import { writeLm } from '../../scripts/lms/write.ts';
import { inspectDirectory } from '../../src/lm/inspect.ts';
import type { Halves } from '../../src/lm/prepare.ts';
import { trainProgram } from '../../src/lm/programs.ts';
import { openProgram, trainerOn } from '../../src/lm/run-program.ts';
import { relativeError, vocabularyCandidates } from '../../src/tuning/reference.ts';

const scratch = mkdtempSync(join(tmpdir(), 'ptuned-half-'));
after(() => rmSync(scratch, { recursive: true, force: true }));

const shape = { layers: 2, hidden: 64, heads: 4, keyValueHeads: 2, vocabulary: 300, positions: 64 };
const [rows, length, virtual] = [2, 8, 3];
const batch = {
  rows,
  length,
  ids: BigInt64Array.from({ length: rows * length }, (_, i) => BigInt((i * 7) % 90)),
  mask: new BigInt64Array(rows * length).fill(1n),
  slots: BigInt64Array.from({ length: rows * length }, (_, i) => BigInt(i % length < virtual ? i % length : -1)),
  targets: BigInt64Array.of(7n, 7n),
};

/** Prompt gradient of a loss that is scaled, the scale taken out again; and how the graph's products are computed. */
async function gradientOf(directory: string, halves: Halves, scale: number) {
  const lm = inspectDirectory(directory, { halves });
  const program = trainProgram(lm, vocabularyCandidates(lm.vocabularySize));
  const types = new Map(program.model.graph.values!.map((one) => [one.name, one.dtype]));
  const products = program.model.graph.nodes
    .filter((node) => /MatMul|Gemm/.test(node.op))
    .map((node) => types.get(node.outputs[0]!));
  const options = { threads: 1, device: 'cpu' as const, directory: lm.graphDirectory };
  const trainer = trainerOn(await openProgram(program, options));
  const width = lm.embedding.width;
  const table = {
    rows: virtual,
    width,
    values: Float32Array.from({ length: virtual * width }, (_, i) => 0.02 * Math.sin(i)),
  };
  const weights = new Float32Array(rows).fill(scale / rows);
  const { gradient } = await trainer.step(batch, BigInt64Array.of(3n, 5n), table, weights);
  await trainer.close();
  return {
    gradient: gradient.map((x) => x / scale),
    halfProducts: products.filter((type) => type === 'float16').length,
    products: products.length,
  };
}

for (const name of ['gpt2', 'bert', 'llama']) {
  test(`${name} in float16: kept half it computes in half precision, with the float32 gradient under a scaled loss`, async () => {
    const directory = join(scratch, name);
    const own = name === 'llama' ? shape : { ...shape, keyValueHeads: 4 };
    writeLm(directory, families.get(name)!, { shape: own, precision: 'float16' });
    const wide = await gradientOf(directory, 'widen', 1);
    assert.equal(wide.halfProducts, 0);
    const half = await gradientOf(directory, 'keep', 2 ** 12);
    assert.ok(half.halfProducts > 0.8 * half.products, `${half.halfProducts} of ${half.products}`);
    const error = relativeError(half.gradient, wide.gradient);
    assert.ok(error > 0 && error < 5e-3, `relative error ${error}`);
  });
}

test('gradients too small for float16 vanish without a scale, and not with one', async () => {
  const directory = join(scratch, 'gpt2-small');
  writeLm(directory, families.get('gpt2')!, { shape: { ...shape, keyValueHeads: 4 }, precision: 'float16' });
  const tiny = 2 ** -22;
  const wide = await gradientOf(directory, 'widen', 1);
  const plain = await gradientOf(directory, 'keep', tiny);
  assert.ok(relativeError(plain.gradient, wide.gradient) > 5e-2, 'a loss scaled down loses its gradient');
  const scaled = await gradientOf(directory, 'keep', tiny * 2 ** 22);
  assert.ok(relativeError(scaled.gradient, wide.gradient) < 5e-3);
});
