/** The graphs a frozen LM runs as: training step, scoring, prediction, embedding look-up. */

import { checkGraph } from '../autodiff/check.ts';
import { gatherHeads } from '../autodiff/gather-heads.ts';
import { groupQueries } from '../autodiff/group-queries.ts';
import { renameValues } from '../autodiff/inline.ts';
import { joinReshapes } from '../autodiff/join-reshapes.ts';
import { namesOf, prune, valuesRead } from '../autodiff/prune.ts';
import { raiseOps } from '../autodiff/raise/raise.ts';
import { pastInputs, presentOf } from '../models/past.ts';
import { createBuilder, emptyGraph, type GraphBuilder } from '../onnx/builder.ts';
import { symbol } from '../onnx/dim.ts';
import { type DType, isFloat } from '../onnx/dtype.ts';
import type { Graph, Model, Node } from '../onnx/ir.ts';
import { typeOf, typeOfTensor } from '../onnx/types.ts';
import { inferNode } from '../ops/registry.ts';
import type { Candidates } from '../tasks/types.ts';
import { type AssembleOptions, assemble, type LmGraph } from './assemble.ts';
import { batch, feeds, idsRead, targetInput } from './feeds.ts';
import { atTokens, targetsInRows } from './focus.ts';
import { knownShapes } from './known-shapes.ts';
import { type PackedGraph, packTokens, unpacked } from './pack.ts';
import { tokensOf } from './position-wise.ts';
import { candidateScores, crossEntropy, rankOfLabel } from './readout.ts';
import { tableGradient } from './splice.ts';
import type { TablePlace } from './types.ts';

export interface Program {
  model: Model;
  /** Output names in the order the function's documentation gives. */
  outputs: string[];
  /** Whether rows of a batch share what their common prefix yields. */
  sharesPrefixes: boolean;
}

/** What stands before rows, by the place where the prompt table enters. */
const pastOf = {
  embeddings: 'empty',
  apart: 'empty',
  past: 'prefix',
  behind: 'inputs',
} as const satisfies Record<TablePlace, AssembleOptions['past']>;

/**
 * ids, mask, slots, table, targets, labels, weights -> mean loss [], gradient of Σ weight · loss with respect to the table
 * [rows, width], loss of each row [batch, 1, 1]. Weights of 1/batch give the mean's gradient; rows of several jobs in one
 * batch each get 1 over the rows of their own job. A table in the past takes no slots; behind past inputs positions are fed.
 */
export function trainProgram(lm: LmGraph, candidates: Candidates, place: TablePlace = 'embeddings'): Program {
  const { builder, logits, spliced } = assemble(lm, { past: pastOf[place] });
  const { logits: focused, packing } = logitsAtTargets(lm, builder, logits, {
    queries: true,
    apart: place === 'apart',
  });
  targetInput(builder, feeds.labels);
  const scores = candidateScores(builder, focused, candidates);
  const losses = crossEntropy(builder, scores);
  // What the focus pass replaced must not be differentiated: drop it before the gradient is built.
  builder.graph.outputs = [{ name: losses, dtype: 'float32', shape: builder.shape(losses) }];
  prune(builder.graph);
  const weights = builder.input(feeds.weights, typeOf('float32', [batch, 1]));
  const seed = builder.op('Unsqueeze', [weights, builder.constant('int64', [-1])]);
  const request = { seeds: new Map([[losses, seed]]), rules: packing.rules };
  const gradient = tableGradient(builder, spliced, packing, request);
  const loss = builder.op('ReduceMean', [losses], { keepdims: 0 });
  return finish(lm, builder, [loss, gradient, losses]);
}

/**
 * ids, mask, slots, table, targets, labels -> cross-entropy [batch, 1, 1], rank [batch, 1] int32, best [batch, 1] int64; of
 * rows behind past inputs also the keys and values that become those.
 */
export function scoreProgram(lm: LmGraph, candidates: Candidates, place: TablePlace = 'embeddings'): Program {
  const { builder, logits, nameOf } = assemble(lm, { past: pastOf[place], lower: false });
  const presents = place === 'behind' ? pastInputs(lm.inputs).map(({ name }) => nameOf(presentOf(name))) : [];
  const focused = logitsAtTargets(lm, builder, logits, { others: presents }).logits;
  targetInput(builder, feeds.labels);
  const scores = candidateScores(builder, focused, candidates);
  const best = builder.op('ArgMax', [scores], { axis: 2, keepdims: 0 });
  return finish(lm, builder, [crossEntropy(builder, scores), rankOfLabel(builder, scores), best, ...presents]);
}

/** ids, mask, slots, table, targets -> logits [batch, 1, V] float32. */
export function predictProgram(lm: LmGraph): Program {
  const { builder, logits } = assemble(lm, { past: 'empty', lower: false });
  return finish(lm, builder, [asFloat32(builder, logitsAtTargets(lm, builder, logits).logits)]);
}

interface AtTargets {
  /** Values that are read beside the logits. */
  others?: readonly string[];
  /** Whether the last attention has the queries of targets alone. */
  queries?: boolean;
  /** Whether tokens before the first pseudo token of a row are computed apart, without a gradient. */
  apart?: boolean;
}

/** Logits [batch, 1, V] of an assembled LM whose tokens are packed, where that gives the same logits. */
function logitsAtTargets(
  lm: LmGraph,
  builder: GraphBuilder,
  logits: string,
  { others = [], queries = false, apart = false }: AtTargets = {},
): { logits: string; packing: PackedGraph } {
  // Only padding sees no key; the import measured that no logits depend on it.
  raiseOps(builder, { blindRows: lm.redundant === undefined ? 'zero' : 'any' });
  const keep = (...names: string[]) => {
    builder.graph.outputs = names.map((name) => ({ name, ...builder.type(name) }));
    prune(builder.graph);
  };
  keep(logits, ...others);
  targetInput(builder, feeds.targets);
  const choice = targetsOf(builder, queries);
  const focused = atTokens(builder, logits, choice);
  keep(focused, ...others);
  const packing = lm.redundant === undefined ? unpacked : packTokens(builder, { picked: choice.picked, apart });
  groupQueries(builder);
  return { logits: focused, packing };
}

/** Targets of a batch whose logits are read at every position. */
export function targetsOf(builder: GraphBuilder, queries = false) {
  return targetsInRows(builder, tokensOf(batch, builder.shape(idsRead(builder))[1]!), queries);
}

export interface CachedProgram extends Program {
  /** Past inputs and the outputs that become them in the next step, in the same order. */
  past: { input: string; output: string; dtype: DType; heads: number; size: number }[];
}

/** ids, mask, positions, slots, table, targets and past inputs -> logits [batch, 1, V], then the new past. */
export function cachedProgram(lm: LmGraph): CachedProgram {
  const { builder, logits, nameOf } = assemble(lm, { past: 'inputs', lower: false });
  const past = pastInputs(lm.inputs).map(({ name, heads, size }) => ({
    input: name,
    output: nameOf(presentOf(name)),
    dtype: builder.type(name).dtype,
    heads,
    size,
  }));
  const kept = past.map((one) => one.output);
  const focused = asFloat32(builder, logitsAtTargets(lm, builder, logits, { others: kept }).logits);
  return { ...finish(lm, builder, [focused, ...kept]), past };
}

/** ids [k] and a vector [width] -> products of their word embeddings with it [k]. */
export function productsProgram(lm: LmGraph): Program {
  const builder = lookUpBuilder(lm);
  builder.input(feeds.vector, typeOf('float32', [lm.embedding.width]));
  return finish(lm, builder, [
    builder.op('MatMul', [asFloat32(builder, lookUp(builder, lm, feeds.ids)), feeds.vector]),
  ]);
}

/** ids [k] -> word embeddings [k, width] and the mean of the table [width], both float32. */
export function embeddingProgram(lm: LmGraph, weight: string): Program {
  const { initializers } = lm.model.graph;
  const builder = lookUpBuilder(lm);
  const rows = asFloat32(builder, lookUp(builder, lm, feeds.ids));
  const { dtype, dims } = initializers.get(weight)!;
  const all = () => {
    const vocabulary = builder.constant('int64', dims[lm.embedding.axis]!);
    const ids = builder.op('Range', [builder.constant('int64', 0), vocabulary, builder.constant('int64', 1)]);
    return lookUp(builder, lm, ids);
  };
  const table = asFloat32(builder, isFloat(dtype) ? weight : all());
  const mean = builder.op('ReduceMean', [table, builder.constant('int64', [isFloat(dtype) ? lm.embedding.axis : 0])], {
    keepdims: 0,
  });
  return finish(lm, builder, [rows, mean]);
}

/** A builder with the LM's weights and the feed ids [k]. */
function lookUpBuilder(lm: LmGraph): GraphBuilder {
  const builder = createBuilder(emptyGraph('embedding'), inferNode, namesOf(lm.model.graph));
  for (const [name, tensor] of lm.model.graph.initializers) {
    builder.graph.initializers.set(name, tensor);
    builder.types.set(name, typeOfTensor(tensor));
  }
  builder.input(feeds.ids, typeOf('int64', [symbol('count')]));
  return builder;
}

/** Repeats the LM's own word-embedding lookup, conversion of a quantized table included, for other ids [k]: [k, width]. */
function lookUp(builder: GraphBuilder, lm: LmGraph, ids: string): string {
  const needed = new Set([lm.embedding.output]);
  const way: Node[] = [];
  for (const node of [...lm.model.graph.nodes].reverse()) {
    if (!node.outputs.some((name) => needed.has(name))) continue;
    way.push(node);
    for (const name of valuesRead(node)) if (name !== lm.embedding.ids) needed.add(name);
  }
  // As the LM has them, [batch, sequence]: a lookup of columns knows the rank.
  const row = builder.op('Unsqueeze', [ids, builder.constant('int64', [0])]);
  const renamed = new Map([[lm.embedding.ids, row]]);
  for (const node of way.reverse()) {
    const copy = renameValues(node, (name) => renamed.get(name) ?? name);
    const outputs = node.outputs.map((name) => (name === '' ? '' : builder.fresh('lookup')));
    builder.append({ ...copy, name: outputs[0]!, outputs });
    for (const [i, name] of node.outputs.entries()) renamed.set(name, outputs[i]!);
  }
  return builder.op('Reshape', [
    renamed.get(lm.embedding.output)!,
    builder.constant('int64', [-1, lm.embedding.width]),
  ]);
}

export function asFloat32(builder: GraphBuilder, value: string): string {
  return builder.type(value).dtype === 'float32' ? value : builder.op('Cast', [value], { to: 1 });
}

/** What was built as a program that yields these values: pruned, checked, its shapes told. */
export function finish(lm: Pick<LmGraph, 'model' | 'redundant'>, builder: GraphBuilder, outputs: string[]): Program {
  gatherHeads(builder);
  joinReshapes(builder);
  const { graph } = builder;
  graph.outputs = outputs.map((name) => {
    const type = builder.type(name);
    return { name, dtype: type.dtype, shape: type.shape };
  });
  prune(graph);
  dropUnusedInputs(graph);
  checkGraph(graph, 'program');
  graph.values = knownShapes(builder);
  return { model: { ...lm.model, graph }, outputs, sharesPrefixes: lm.redundant === 'prefixes' };
}

/** A causal LM without padding logic may not read every feed; onnxruntime refuses feeds a graph does not declare. */
function dropUnusedInputs(graph: Graph): void {
  const read = new Set([
    ...graph.nodes.flatMap((node) => [...valuesRead(node)]),
    ...graph.outputs.map((output) => output.name),
  ]);
  graph.inputs = graph.inputs.filter((input) => read.has(input.name));
}
