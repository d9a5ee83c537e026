/** A frozen LM's logits and the table's gradient, computed for more or fewer tokens. */
import { fileURLToPath } from 'node:url';
import { prune, valuesRead } from '../../src/autodiff/prune.ts';
import { raiseOps } from '../../src/autodiff/raise/raise.ts';
import { assemble } from '../../src/lm/assemble.ts';
import { feeds, targetInput } from '../../src/lm/feeds.ts';
import { atTokens } from '../../src/lm/focus.ts';
import { type Inspected, inspectDirectory } from '../../src/lm/inspect.ts';
import { packTokens, unpacked } from '../../src/lm/pack.ts';
import { packingFeeds } from '../../src/lm/packing-feeds.ts';
import { targetsOf } from '../../src/lm/programs.ts';
import { batchFeeds } from '../../src/lm/run-program.ts';
import { tableGradient } from '../../src/lm/splice.ts';
import type { LmBatch } from '../../src/lm/types.ts';
import { createSession } from '../../src/onnx/session.ts';

export function loadFixture(name: string): Inspected {
  return inspectDirectory(fileURLToPath(new URL(`../fixtures/${name}`, import.meta.url)));
}

/** Two, no and three pseudo tokens; the first row is padded, the first and the last one begin alike. */
export function unevenBatch(): LmBatch {
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

export interface Extent {
  /** Null: of all tokens, padding left out of packed ones. */
  targets: { queries: boolean } | null;
  /** Whether the gradient goes back through pseudo tokens alone where it can. */
  pseudoTokens: boolean;
}

/** Logits, and the gradient of Σ sin(logits), for a table of 4 rows. */
export async function logitsAndGradient(lm: Inspected, batch: LmBatch, { targets, pseudoTokens }: Extent) {
  const { builder, logits, spliced } = assemble(lm, { past: 'empty' });
  raiseOps(builder);
  const { graph } = builder;
  const keep = (...names: string[]) => {
    graph.outputs = names.map((name) => ({ name, ...builder.type(name) }));
    prune(graph);
  };
  keep(logits);
  targetInput(builder, feeds.targets);
  const choice = targetsOf(builder, targets?.queries ?? false);
  const read = targets === null ? logits : atTokens(builder, logits, choice);
  keep(read);
  const packing = lm.redundant === undefined ? unpacked : packTokens(builder, { picked: choice.picked });
  const end = packing.find(read) ?? read;
  keep(end);
  const seeds = new Map([[end, builder.op('Cos', [end])]]);
  const request = { seeds, rules: packing.rules };
  const gradient = tableGradient(builder, pseudoTokens ? spliced : null, packing, request);
  keep(end, gradient);
  const needed = new Set(graph.nodes.flatMap((node) => [...valuesRead(node)]));
  graph.inputs = graph.inputs.filter((input) => needed.has(input.name));
  const options = { threads: 1, device: 'cpu' as const, directory: lm.graphDirectory };
  const session = await createSession({ ...lm.model, graph }, options);
  const { width } = lm.embedding;
  const table = { rows: 4, width, values: Float32Array.from({ length: 4 * width }, (_, i) => 0.3 * Math.sin(i)) };
  const all = { ...batchFeeds(batch, table), ...packingFeeds(batch, batch.targets, lm.redundant === 'prefixes') };
  const results = await session.run(Object.fromEntries(session.inputs.map((name) => [name, all[name]!])));
  await session.close();
  const data = (name: string) => results[name]!.data as Float32Array;
  return { logits: data(end), gradient: data(gradient) };
}
