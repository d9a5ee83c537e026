/** Shapes that the runtime is told: all of them true when a training step runs, and equal in words only where equal in size. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { inspectDirectory } from '../../src/lm/inspect.ts';
import { trainProgram } from '../../src/lm/programs.ts';
import { batchFeeds } from '../../src/lm/run-program.ts';
import { type Dim, dimKey, evaluateDim, shapeText } from '../../src/onnx/dim.ts';
import { createSession, type Feed } from '../../src/onnx/session.ts';
import { readReference, vocabularyCandidates } from '../../src/tuning/reference.ts';

for (const name of ['gpt2', 'bert', 'llama']) {
  test(`${name}: every value of a training step has the shape it is said to have`, async () => {
    const folder = fileURLToPath(new URL(`../fixtures/${name}`, import.meta.url));
    const lm = inspectDirectory(folder);
    const { batch, table, labels } = await readReference(join(folder, 'reference.safetensors'));
    const { model } = trainProgram(lm, vocabularyCandidates(lm.vocabularySize));
    const values = model.graph.values ?? [];
    const yielded = model.graph.nodes.flatMap((node) => node.outputs.filter((one) => one !== ''));
    assert.ok(values.length > 0.95 * yielded.length, `${values.length} of ${yielded.length} shapes are known`);
    const open = { ...model, graph: { ...model.graph, outputs: values, values: [] } };
    const session = await createSession(open, { threads: 1, device: 'cpu', directory: lm.graphDirectory });
    const all = batchFeeds(batch, table, labels);
    const results = await session.run(
      Object.fromEntries(session.inputs.map((input): [string, Feed] => [input, all[input]!])),
    );
    await session.close();
    const sizes = new Map([['batch', batch.rows], ['sequence', batch.length], ['rows', table.rows]]); // biome-ignore format: one line
    for (const { name: value, dtype, shape } of values) {
      const { dims, dtype: found } = results[value]!;
      assert.equal(dtype, found, value);
      assert.equal(dims.length, shape!.length, `${value} is ${shapeText(shape)}, found [${dims}]`);
      for (const [i, dim] of shape!.entries())
        assert.equal(dims[i], sizeOf(dim, sizes, dims[i]!), `${value} is ${shapeText(shape)}, found [${dims}]`);
    }
  });
}

/** What a dimension has to be; the first place where an unknown one stands decides for all others. */
function sizeOf(dim: Dim, sizes: Map<string, number>, found: number): number {
  const known = evaluateDim(dim, sizes);
  if (known !== null) return known;
  const size = sizes.get(dimKey(dim)) ?? found;
  sizes.set(dimKey(dim), size);
  return size;
}
