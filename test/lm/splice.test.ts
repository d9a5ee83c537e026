/** The way back to the table: what only pseudo tokens need is computed at these alone, and the gradient stays the same. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { prune, valuesRead } from '../../src/autodiff/prune.ts';
import { assemble } from '../../src/lm/assemble.ts';
import { type Inspected, inspectDirectory } from '../../src/lm/inspect.ts';
import { packTokens, unpacked } from '../../src/lm/pack.ts';
import { packingFeeds } from '../../src/lm/packing-feeds.ts';
import { trainProgram } from '../../src/lm/programs.ts';
import { batchFeeds } from '../../src/lm/run-program.ts';
import { tableGradient } from '../../src/lm/splice.ts';
import type { LmBatch } from '../../src/lm/types.ts';
import { shapeText } from '../../src/onnx/dim.ts';
import { createSession } from '../../src/onnx/session.ts';
import { relativeError, vocabularyCandidates } from '../../src/tuning/reference.ts';

function load(name: string): Inspected {
  return inspectDirectory(fileURLToPath(new URL(`../fixtures/${name}`, import.meta.url)));
}

/** Two, no and three pseudo tokens; the first row is padded, the first and the last one begin alike. */
function unevenBatch(): LmBatch {
  const slots = [
    [0, 1, -1, -1, -1],
    [-1, -1, -1, -1, -1],
    [0, 1, -1, 2, -1],
  ];
  const ids = [
    [5, 5, 20, 21, 0],
    [22, 23, 24, 25, 26],
    [5, 5, 20, 5, 27],
  ];
  return {
    rows: 3,
    length: 5,
    ids: BigInt64Array.from(ids.flat(), BigInt),
    slots: BigInt64Array.from(slots.flat(), BigInt),
    mask: BigInt64Array.from(ids.flat(), (id) => (id === 0 ? 0n : 1n)),
    targets: BigInt64Array.of(3n, 4n, 4n),
  };
}

/** Gradient of Σ sin(logits) over all tokens, padding left out of packed ones. */
async function gradientOf(lm: Inspected, batch: LmBatch, atPseudoTokens: boolean): Promise<Float32Array> {
  const { builder, logits, spliced } = assemble(lm, { past: 'empty' });
  builder.output(logits);
  prune(builder.graph);
  const packing = lm.redundant === undefined ? unpacked : packTokens(builder);
  const end = packing.find(logits) ?? logits;
  builder.graph.outputs = [{ name: end, ...builder.type(end) }];
  const seeds = new Map([[end, builder.op('Cos', [end])]]);
  const request = { seeds, rules: packing.rules };
  const gradient = tableGradient(builder, atPseudoTokens ? spliced : null, packing, request);
  const { graph } = builder;
  graph.outputs = [{ name: gradient, ...builder.type(gradient) }];
  prune(graph);
  const read = new Set(graph.nodes.flatMap((node) => [...valuesRead(node)]));
  graph.inputs = graph.inputs.filter((input) => read.has(input.name));
  const session = await createSession(
    { ...lm.model, graph },
    { threads: 1, device: 'cpu', directory: lm.graphDirectory },
  );
  const { width } = lm.embedding;
  const table = { rows: 4, width, values: Float32Array.from({ length: 4 * width }, (_, i) => 0.3 * Math.sin(i)) };
  const all = { ...batchFeeds(batch, table), ...packingFeeds(batch, batch.targets, lm.redundant === 'prefixes') };
  const results = await session.run(Object.fromEntries(session.inputs.map((name) => [name, all[name]!])));
  await session.close();
  return results[gradient]!.data as Float32Array;
}

for (const [name, redundant] of [
  ['gpt2', 'prefixes'],
  ['gpt2', undefined],
  ['llama', 'prefixes'],
  ['bert', 'padding'],
  ['bert', undefined],
] as const) {
  const lm = () => ({ ...load(name), redundant });

  test(`${name}, ${redundant ?? 'every token'}: the gradient is the one that goes back through all tokens`, async () => {
    const [found, expected] = [
      await gradientOf(lm(), unevenBatch(), true),
      await gradientOf(lm(), unevenBatch(), false),
    ];
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
