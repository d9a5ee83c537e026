/** Brings an exported graph into the one form that everything after import works with. */
import { canonicalize } from '../autodiff/canonicalize.ts';
import { checkGraph } from '../autodiff/check.ts';
import { inlineFunctions } from '../autodiff/inline.ts';
import { namesOf, prune } from '../autodiff/prune.ts';
import { replay } from '../autodiff/replay.ts';
import { widenHalves } from '../autodiff/widen.ts';
import { presentOf } from '../models/past.ts';
import { createBuilder, emptyGraph, type GraphBuilder } from '../onnx/builder.ts';
import { type Dim, dimKey } from '../onnx/dim.ts';
import type { Graph, Model, ValueInfo } from '../onnx/ir.ts';
import { typeOf } from '../onnx/types.ts';
import { inferNode } from '../ops/registry.ts';
import { turnLookups, viewWeights } from './weight-views.ts';

/** What becomes of float16 and bfloat16: a GPU computes in them, a CPU in float32. */
export type Halves = 'widen' | 'keep';

/** Ops that hide the word-embedding lookup. */
const lookups = new Set(['com.microsoft.EmbedLayerNormalization', 'com.microsoft.QEmbedLayerNormalization']);

/**
 * Function bodies inlined, opset lifted, branches with a known condition taken, half precision widened unless it is kept.
 * @throws PtunedError import_refused, damaged_model
 */
export function prepareModel(read: Model, halves: Halves = 'widen'): Model {
  const model = canonicalize(inlineFunctions(read));
  const graph = turnLookups(viewWeights(takeKnownBranches(model.graph)));
  // Optimizers leave nodes behind that no output needs, a second lookup of the word embeddings among them.
  prune(graph);
  const prepared = halves === 'keep' ? { ...model, graph } : widenHalves({ ...model, graph });
  checkGraph(prepared.graph, 'preparing the graph');
  return prepared;
}

function takeKnownBranches(source: Graph): Graph {
  const builder = createBuilder(emptyGraph(source.name), inferNode, namesOf(source));
  for (const input of source.inputs) builder.input(input.name, typeOf(input.dtype, input.shape));
  const renamed = new Map<string, string>();
  replay(builder, source, { renamed, lower: (key) => lookups.has(key), dimSource: dimsOfInputs(builder) });
  for (const { name } of source.outputs) {
    // Outputs keep their names: they say what they are.
    const value = renamed.get(name);
    if (value !== undefined)
      builder.append({ op: 'Identity', domain: '', name, inputs: [value], outputs: [name], attributes: new Map() });
  }
  return {
    ...builder.graph,
    inputs: builder.graph.inputs.map((input) => settled(builder, input)),
    outputs: source.outputs,
  };
}

/** Past keys and values whose heads or size have a name only, with the numbers of what they become. */
function settled(builder: GraphBuilder, input: ValueInfo): ValueInfo {
  const becomes = builder.types.get(presentOf(input.name))?.shape ?? null;
  if (input.shape === null || becomes?.length !== input.shape.length) return input;
  const shape = input.shape.map((dim, axis) => (typeof dim === 'number' ? dim : numberOr(becomes[axis]!, dim)));
  return { ...input, shape };
}

function numberOr(dim: Dim, other: Dim): Dim {
  return typeof dim === 'number' ? dim : other;
}

/** Dimensions that the inputs declare, as int64 [1] values made from the inputs alone. */
function dimsOfInputs(builder: GraphBuilder): (dim: Dim) => string | null {
  const places = new Map<string, { input: string; axis: number }>();
  for (const { name, shape } of builder.graph.inputs) {
    for (const [axis, dim] of (shape ?? []).entries()) {
      if (typeof dim !== 'number' && !places.has(dimKey(dim))) places.set(dimKey(dim), { input: name, axis });
    }
  }
  const made = new Map<string, string>();
  return (dim) => {
    if (typeof dim === 'number') return builder.constant('int64', [dim]);
    const place = places.get(dimKey(dim));
    if (place === undefined) return null;
    const { input, axis } = place;
    const found = made.get(dimKey(dim)) ?? builder.op('Shape', [input], { start: axis, end: axis + 1 });
    made.set(dimKey(dim), found);
    return found;
  };
}
