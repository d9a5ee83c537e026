/** The gradients that the rules give, the way an LM's graph goes: canonical form, lowered, differentiated, run. */
import { canonicalize } from '../../src/autodiff/canonicalize.ts';
import { checkGraph } from '../../src/autodiff/check.ts';
import { appendReachingGradients } from '../../src/autodiff/gradient.ts';
import { inlineFunctions } from '../../src/autodiff/inline.ts';
import { namesOf } from '../../src/autodiff/prune.ts';
import { replay } from '../../src/autodiff/replay.ts';
import { createBuilder, emptyGraph, type GraphBuilder } from '../../src/onnx/builder.ts';
import { type Dim, dimKey, evaluateDim } from '../../src/onnx/dim.ts';
import type { Model } from '../../src/onnx/ir.ts';
import { createSession, type Feed, type TypedArray } from '../../src/onnx/session.ts';
import { typeOf } from '../../src/onnx/types.ts';
import { inferNode } from '../../src/ops/registry.ts';
import { isSeeded, type Subject, seedValues, sessionOptions, typedArray } from './subject.ts';

/** Symbols of input dimensions with their sizes, and the shape an input is said to have. */
export interface Knowledge {
  shapeOf(input: string): Dim[];
  bindings: ReadonlyMap<string, number>;
}

export interface RuleGradients {
  /** By input; an input that no gradient reaches is left out. */
  gradients: Map<string, TypedArray>;
  outputs: Record<string, Feed>;
  /** Where inference and run do not agree, in words. */
  disagreements: string[];
}

/**
 * Gradients of Σ seed · y. Every value on the way is compared with what was inferred of it.
 * @param outputs those of the graph as it is written, for the shapes of the seeds
 * @param seeds by output; default {@link seedValues}
 */
export async function ruleGradients(
  subject: Subject,
  knowledge: Knowledge,
  outputs: Readonly<Record<string, Feed>>,
  seeds: Readonly<Record<string, ArrayLike<number>>> = {},
): Promise<RuleGradients> {
  const { builder, opsets, nameOf } = forward(subject.model, knowledge);
  const written = subject.model.graph.outputs.map((output) => output.name);
  const seeding = new Map<string, string>();
  const feeds: Record<string, Feed> = { ...subject.feeds };
  for (const [i, name] of written.entries()) {
    const { dtype, shape } = builder.type(nameOf(name));
    if (!isSeeded(subject, name, dtype)) continue;
    const { dims, data } = outputs[name]!;
    const seed = builder.input(`seed${i}`, typeOf(dtype, shape));
    seeding.set(nameOf(name), seed);
    feeds[seed] = { dtype, dims, data: typedArray(dtype, seeds[name] ?? seedValues(data.length, i)) };
  }
  const gradients = appendReachingGradients(builder, { seeds: seeding, wrt: subject.variables });
  const results = await runAll(builder, opsets, feeds, written.map(nameOf));
  return {
    gradients: new Map([...gradients].map(([name, gradient]) => [name, results[gradient]!.data])),
    outputs: Object.fromEntries(written.map((name) => [name, results[nameOf(name)]!])),
    disagreements: Object.keys(results).flatMap((name) =>
      disagreements(builder, name, results[name]!, knowledge.bindings),
    ),
  };
}

/** The graph in the form that is differentiated, and where its values are found there. */
export function forward(model: Model, knowledge: Knowledge) {
  const { graph, opsets } = canonicalize(inlineFunctions(model));
  const builder = createBuilder(emptyGraph('case'), inferNode, namesOf(graph));
  for (const { name, dtype } of graph.inputs) builder.input(name, typeOf(dtype, knowledge.shapeOf(name)));
  const renamed = new Map<string, string>();
  replay(builder, graph, { renamed, lower: () => true });
  return { builder, opsets, nameOf: (name: string) => renamed.get(name) ?? name };
}

/** All values of the graph by name, those fed included. */
async function runAll(
  builder: GraphBuilder,
  opsets: Model['opsets'],
  feeds: Record<string, Feed>,
  wanted: readonly string[],
): Promise<Record<string, Feed>> {
  const { graph } = builder;
  // What is known before the run is an initializer by now, and an input may be an output.
  const copies = new Map<string, string>();
  for (const name of wanted)
    if (graph.initializers.has(name) || name in feeds) copies.set(name, builder.op('Identity', [name]));
  const made = graph.nodes.flatMap((node) => node.outputs.filter((name) => name !== ''));
  graph.outputs = made.map((name) => ({ name, dtype: builder.type(name).dtype, shape: null }));
  checkGraph(graph, 'building the case');
  const session = await createSession(
    { irVersion: 10, producer: 'test', opsets, graph, functions: [] },
    sessionOptions,
  );
  try {
    const results = { ...feeds, ...(await session.run(feeds)) };
    for (const [name, copy] of copies) results[name] = results[copy]!;
    return results;
  } finally {
    await session.close();
  }
}

function disagreements(
  builder: GraphBuilder,
  name: string,
  found: Feed,
  bindings: ReadonlyMap<string, number>,
): string[] {
  const { dtype, shape, value } = builder.type(name);
  const list: string[] = [];
  if (dtype !== found.dtype) list.push(`${name}: inferred ${dtype}, found ${found.dtype}`);
  const dims = shape?.map((dim) => evaluateDim(dim, bindings)) ?? null;
  const same =
    dims === null || (dims.length === found.dims.length && dims.every((d, i) => d === null || d === found.dims[i]));
  if (!same) list.push(`${name}: inferred [${shape?.map(dimKey)}], found [${found.dims}]`);
  const elements = value?.map((one) => evaluateDim(one, bindings)) ?? [];
  if (elements.some((one, i) => one !== null && Math.abs(one - Number(found.data[i])) > 1e-6 * Math.abs(one)))
    list.push(`${name}: inferred the elements ${elements}, found ${found.data}`);
  return list;
}
