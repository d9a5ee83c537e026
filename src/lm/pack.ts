/**
 * Computes every token once. Padding is left out, and where rows of a batch begin with the same tokens (the leading
 * pseudo tokens of a template, above all) a causal LM computes these once for the batch. Position-wise stretches of the
 * graph run on the packed tokens alone; before an op that mixes positions, values are spread over the batch again.
 */
import { valuesRead } from '../autodiff/prune.ts';
import type { GraphBuilder } from '../onnx/builder.ts';
import { symbol } from '../onnx/dim.ts';
import { attributesOf, type Node } from '../onnx/ir.ts';
import { type TensorType, typeOf } from '../onnx/types.ts';
import type { Vjp } from '../ops/op.ts';
import { addAt } from '../ops/places.ts';
import { batch, earlyCount, feeds, packedCount, sequence } from './feeds.ts';
import type { Picked } from './focus.ts';
import {
  carrying,
  isPositionWise,
  isWeightProduct,
  type Layout,
  layoutOf,
  repeatNode,
  type Tokens,
  tokensOf,
  trailing,
} from './position-wise.ts';

/** Tokens of a packed graph: [1, tokens, …], or [tokens, …]. */
const packed: Tokens = tokensOf(1, packedCount);
const earlyTokens: Tokens = tokensOf(1, earlyCount);
const whole: Tokens = tokensOf(batch, sequence);
const copyCount = symbol('copies');

export interface PackedGraph {
  /** The packed value that stands for one of the graph, or null where that is not packed. */
  find(value: string): string | null;
  /** The packed value that stands for one of the graph; the latter where it carries no tokens that are packed. */
  pack(value: string): string;
  /** Gradient rules of the nodes that pack and spread, by node name: cheaper than those of any Gather. */
  rules: ReadonlyMap<string, Vjp>;
}

/** A graph that computes every token. */
export const unpacked: PackedGraph = { find: () => null, pack: (value) => value, rules: new Map() };

export interface PackOptions {
  /** What was picked from values at the targets is picked from the packed ones. */
  picked?: ReadonlyMap<string, Picked>;
  /** Early tokens, which depend on no prompt, are computed apart from the others, and no gradient passes them. */
  apart?: boolean;
}

/** Rewrites the builder's graph, which must hold nothing that its outputs do not need. Declares the feeds it reads. */
export function packTokens(
  builder: GraphBuilder,
  { picked = new Map(), apart = false }: PackOptions = {},
): PackedGraph {
  const chosen = stretches(builder);
  const rules = new Map<string, Vjp>();
  if (chosen.size === 0) return unpacked;
  declareFeeds(builder);
  if (apart) declareEarly(builder);
  const { nodes } = builder.graph;
  builder.graph.nodes = [];
  const rest = packingAt(builder, packed, (value) => packValue(builder, value, rules));
  const early = apart ? packingAt(builder, earlyTokens, (value) => gatherTokens(builder, value, earlyTokens)) : null;
  // What position-wise nodes yielded and no one has spread yet.
  const waiting = new Set<string>();
  for (const node of nodes) {
    if (chosen.has(node)) {
      rest.repeat(node);
      early?.repeat(node);
      for (const name of node.outputs) if (name !== '') waiting.add(name);
      continue;
    }
    const pick = picked.get(node.outputs[0]!);
    const from = pick === undefined ? undefined : rest.values.get(pick.value);
    if (from !== undefined) {
      pickPacked(builder, node.outputs[0]!, from, pick!.layout);
      continue;
    }
    for (const name of valuesRead(node)) {
      if (!waiting.delete(name)) continue;
      const from = rest.values.get(name)!;
      if (early === null) spreadValue(builder, name, from, rules);
      else spreadBoth(builder, name, from, early.values.get(name)!, rules);
    }
    builder.graph.nodes.push(node);
  }
  return { find: (value) => rest.values.get(value) ?? null, pack: rest.of, rules };
}

/** Values at some of the tokens, by their names in the whole graph. */
function packingAt(builder: GraphBuilder, tokens: Tokens, pack: (value: string) => string) {
  const values = new Map<string, string>();
  const of = (value: string): string => {
    const carried = values.has(value) ? value : carrying(builder, value, whole);
    if (layoutOf(builder, carried, whole) === null) return value;
    const found = values.get(value) ?? pack(carried);
    values.set(value, found);
    return found;
  };
  return {
    values,
    of,
    repeat(node: Node): void {
      const outputs = repeatNode(builder, node, whole, of, [1, -1]);
      for (const [i, name] of node.outputs.entries()) {
        if (name === '') continue;
        builder.types.set(outputs[i]!, packedType(builder, name, tokens));
        values.set(name, outputs[i]!);
      }
    },
  };
}

/** What was picked from a value at the targets, from its packed rows instead; under its own name. */
function pickPacked(builder: GraphBuilder, name: string, from: string, layout: Layout): void {
  if (!builder.types.has(feeds.packedTargets)) builder.input(feeds.packedTargets, typeOf('int64', [batch]));
  const rows = layout === 'flat' ? from : builder.op('Squeeze', [from, builder.constant('int64', [0])]);
  const append = (op: string, inputs: string[]) =>
    builder.append({ op, domain: '', name, inputs, outputs: [name], attributes: attributesOf({}) });
  if (layout === 'flat') append('Gather', [rows, feeds.packedTargets]);
  else append('Unsqueeze', [builder.op('Gather', [rows, feeds.packedTargets]), builder.constant('int64', [1])]);
}

/** Position-wise nodes in stretches that hold a product with a weight: others are too cheap to be worth a copy. */
function stretches(builder: GraphBuilder): Set<Node> {
  const parents = new Map<Node, Node>();
  const root = (node: Node): Node => {
    let top = node;
    while (parents.get(top) !== top) top = parents.get(top)!;
    parents.set(node, top);
    return top;
  };
  const producers = new Map<string, Node>();
  for (const node of builder.graph.nodes) {
    if (!isPositionWise(builder, node, whole) || !hasKnownWidths(builder, node)) continue;
    parents.set(node, node);
    for (const name of node.inputs) {
      const before = producers.get(name);
      if (before !== undefined) parents.set(root(before), root(node));
    }
    for (const name of node.outputs) producers.set(name, node);
  }
  const nodes = [...parents.keys()];
  const worth = new Set(nodes.filter((node) => isWeightProduct(builder, node)).map(root));
  return new Set(nodes.filter((node) => worth.has(root(node))));
}

/** Values are packed as rows of known width. */
function hasKnownWidths(builder: GraphBuilder, node: Node): boolean {
  return [...node.inputs, ...node.outputs].every((name) => {
    const layout = name === '' ? null : layoutOf(builder, name, whole);
    return layout === null || trailing(builder, name, layout).every((dim) => typeof dim === 'number');
  });
}

function declareFeeds(builder: GraphBuilder): void {
  builder.input(feeds.packed, typeOf('int64', [packedCount]));
  builder.input(feeds.spread, typeOf('int64', [batch, sequence]));
  builder.input(feeds.spreadGradient, typeOf('int64', [batch, sequence]));
  builder.input(feeds.copies, typeOf('int64', [copyCount]));
  builder.input(feeds.copyRows, typeOf('int64', [copyCount, 1]));
}

function declareEarly(builder: GraphBuilder): void {
  builder.input(feeds.early, typeOf('int64', [earlyCount]));
  builder.input(feeds.spreadEarly, typeOf('int64', [batch, sequence]));
}

function packedType(builder: GraphBuilder, value: string, tokens: Tokens): TensorType {
  const layout = layoutOf(builder, value, whole)!;
  const rest = trailing(builder, value, layout);
  const lead = layout === 'nested' ? tokens.nested : [tokens.flat];
  return typeOf(builder.type(value).dtype, [...lead, ...rest]);
}

/** The value's rows at the packed tokens. */
function packValue(builder: GraphBuilder, value: string, rules: Map<string, Vjp>): string {
  return gatherTokens(builder, value, packed, (taken) => rules.set(taken, packVjp));
}

/** The value's rows at some tokens. */
function gatherTokens(builder: GraphBuilder, value: string, tokens: Tokens, onTaken?: (name: string) => void): string {
  const layout = layoutOf(builder, value, whole)!;
  const rest = trailing(builder, value, layout) as number[];
  const rows = layout === 'nested' ? reshape(builder, value, [-1, ...rest]) : value;
  const taken = builder.op('Gather', [rows, tokens === packed ? feeds.packed : feeds.early], { axis: 0 });
  onTaken?.(taken);
  const result = layout === 'nested' ? reshape(builder, taken, [1, -1, ...rest]) : taken;
  builder.types.set(result, packedType(builder, value, tokens));
  return result;
}

/** The value under its own name again, from its packed rows. */
function spreadValue(builder: GraphBuilder, value: string, from: string, rules: Map<string, Vjp>): void {
  const [inputs, attributes] = [spreadInputs(builder, value, from, feeds.spread), attributesOf({ axis: 0 })];
  builder.append({ op: 'Gather', domain: '', name: value, inputs, outputs: [value], attributes });
  rules.set(value, spreadVjp);
}

function spreadInputs(builder: GraphBuilder, value: string, from: string, places: string): [string, string] {
  const layout = layoutOf(builder, value, whole)!;
  const rest = trailing(builder, value, layout) as number[];
  return layout === 'nested' ? [reshape(builder, from, [-1, ...rest]), places] : [from, reshape(builder, places, [-1])];
}

/** The same from rows of early tokens and of the others. */
function spreadBoth(builder: GraphBuilder, value: string, from: string, early: string, rules: Map<string, Vjp>): void {
  const spread = (rows: string, places: string) => {
    const result = builder.op('Gather', spreadInputs(builder, value, rows, places), { axis: 0 });
    builder.types.set(result, builder.type(value));
    return result;
  };
  const others = spread(from, feeds.spread);
  rules.set(others, spreadVjp);
  const axes = trailing(builder, value, layoutOf(builder, value, whole)!).map(() => 1);
  const isEarly = builder.op('GreaterOrEqual', [feeds.spreadEarly, builder.constant('int64', 0)]);
  const lead = layoutOf(builder, value, whole) === 'nested' ? [0, 0] : [-1];
  const inputs = [reshape(builder, isEarly, [...lead, ...axes]), spread(early, feeds.spreadEarly), others];
  const attributes = attributesOf({});
  builder.append({ op: 'Where', domain: '', name: value, inputs, outputs: [value], attributes });
  // Of places of early tokens nothing is gathered on the way back.
  rules.set(value, (c) => [null, null, c.gradient(0)]);
}

function reshape(builder: GraphBuilder, value: string, shape: readonly number[]): string {
  return builder.op('Reshape', [value, builder.constant('int64', shape)]);
}

/** Back to each token's place; copies of a token and padding get zero. */
const packVjp: Vjp = (c) => {
  const b = c.builder;
  const gradient = c.gradient(0);
  const { dtype, shape } = b.type(gradient);
  const rest = shape!.slice(1) as number[];
  const zeros = b.op('Expand', [
    b.op('CastLike', [b.constant('float32', 0), gradient]),
    b.constant('int64', [1, ...rest]),
  ]);
  const places = reshape(b, feeds.spreadGradient, [-1]);
  const back = b.op('Gather', [b.op('Concat', [gradient, zeros], { axis: 0 }), places], { axis: 0 });
  b.types.set(back, typeOf(dtype, [whole.flat, ...rest]));
  return [back, null];
};

/** Sum over a token's copies. Padding has none: what is computed there reaches no logits. */
const spreadVjp: Vjp = (c) => {
  const b = c.builder;
  const { dtype, shape } = b.type(c.input(0));
  const rest = shape!.slice(1) as number[];
  const rows = reshape(b, c.gradient(0), [-1, ...rest]);
  const own = b.op('Gather', [rows, feeds.packed], { axis: 0 });
  const copies = b.op('Gather', [rows, feeds.copies], { axis: 0 });
  const sum = addAt(b, 'ScatterND', own, feeds.copyRows, copies);
  b.types.set(sum, typeOf(dtype, [packedCount, ...rest]));
  return [sum, null];
};
