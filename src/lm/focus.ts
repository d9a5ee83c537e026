/**
 * Computes values only at the tokens where they are needed. Everything between the last mixing of positions and the logits
 * (output projection, MLP, final norm, head) is position-wise: it is repeated for the target positions alone, and the
 * full-length original falls away. So it is between the first mixing and the embeddings in the gradient graph.
 */
import { valuesRead } from '../autodiff/prune.ts';
import type { GraphBuilder } from '../onnx/builder.ts';
import type { Node } from '../onnx/ir.ts';
import { feeds, idsRead } from './feeds.ts';
import {
  carrying,
  isPositionWise,
  type Layout,
  layoutOf,
  repeatNode,
  spansRows,
  type Tokens,
} from './position-wise.ts';
import { type Asked, askedAlong, gatherAlong, type Place, repeatAlong } from './query-axis.ts';
import { separateProducts } from './separate.ts';

/** How tokens are picked from those that values carry, and what a reshape calls the picked ones: [-1, 1] or [1, -1]. */
export interface TokenChoice {
  tokens: Tokens;
  gather(value: string, layout: Layout): string;
  /** Picks one token of each row where its axis is not the second; null where the choice ends at the mixing of tokens. */
  gatherAlong: ((value: string, place: Place) => string) | null;
  nested: readonly [number, number];
}

/** What was picked from a value that carries all tokens. */
export interface Picked {
  value: string;
  layout: Layout;
}

export interface TargetChoice extends TokenChoice {
  /** By the name of the picked value. */
  picked: ReadonlyMap<string, Picked>;
}

/** Targets of a batch whose values carry [batch, sequence] tokens. The targets are a feed that must be declared. */
export function targetsInRows(builder: GraphBuilder, tokens: Tokens, followQueries: boolean): TargetChoice {
  const picked = new Map<string, Picked>();
  return {
    tokens,
    picked,
    gather(value, layout) {
      const result = gatherTargets(builder, value, layout);
      picked.set(result, { value, layout });
      return result;
    },
    gatherAlong: followQueries ? (value, place) => gatherAlong(builder, value, place) : null,
    nested: [-1, 1],
  };
}

/** `value` at the chosen tokens. The graph must hold nothing that its outputs do not need, or `value` does not. */
export function atTokens(builder: GraphBuilder, value: string, choice: TokenChoice): string {
  const { tokens } = choice;
  const start = { axis: 1, rank: builder.shape(value).length };
  const first = movedNodes(builder, value, start, choice);
  const separated = first.partly.map((node) => separateProducts(builder, node, tokens));
  const { moved } = separated.includes(true) ? movedNodes(builder, value, start, choice) : first;
  const producers = new Map<string, Node>();
  for (const node of moved.keys()) for (const name of node.outputs) producers.set(name, node);
  const focused = new Map<string, string>();

  const pick = (name: string, place: Place): string => {
    if (place.axis > 1) return choice.gatherAlong!(name, place);
    const carried = carrying(builder, name, tokens);
    const layout = layoutOf(builder, carried, tokens);
    return layout === null ? choice.gatherAlong!(name, place) : choice.gather(carried, layout);
  };
  const visit = (name: string, place: Place | null): string => {
    if (place === null) return name;
    const key = `${place.axis} ${place.rank} ${name}`;
    const found = focused.get(key);
    if (found !== undefined) return found;
    const node = producers.get(name);
    if (node === undefined) {
      const picked = pick(name, place);
      focused.set(key, picked);
      return picked;
    }
    const { asked, along } = moved.get(node)!;
    const replaced = (input: string, i: number) => visit(input, asked[i] ?? null);
    const outputs = along
      ? repeatAlong(builder, node, place, replaced)
      : repeatNode(builder, node, tokens, replaced, choice.nested);
    for (const [i, output] of node.outputs.entries()) focused.set(`${place.axis} ${place.rank} ${output}`, outputs[i]!);
    return focused.get(key)!;
  };
  return visit(value, start);
}

interface Moved {
  asked: Asked;
  /** Repeated along an axis of queries; otherwise as a position-wise node. */
  along: boolean;
}

interface MovedNodes {
  moved: Map<Node, Moved>;
  /** Splits of which some parts are needed at chosen tokens alone, others whole. */
  partly: Node[];
}

/** Nodes whose results are needed at chosen tokens alone, from `value` upwards, and what they ask of their inputs. */
function movedNodes(builder: GraphBuilder, value: string, start: Place, choice: TokenChoice): MovedNodes {
  /** Null: needed whole, or along different axes. */
  const wanted = new Map<string, Place | null>([[value, start]]);
  const want = (name: string, place: Place | null) => {
    const before = wanted.get(name);
    wanted.set(name, before === undefined || (place !== null && samePlace(before, place)) ? place : null);
  };
  for (const output of builder.graph.outputs) if (output.name !== value) want(output.name, null);
  const moved = new Map<Node, Moved>();
  const partly: Node[] = [];
  for (const node of [...builder.graph.nodes].reverse()) {
    const places = node.outputs.flatMap((name) => (wanted.has(name) ? [wanted.get(name)!] : []));
    const place = places.find((one) => one !== null);
    const same = place !== undefined && places.every((one) => samePlace(one, place));
    const move = same ? moveOf(builder, node, place, choice) : null;
    if (move !== null) moved.set(node, move);
    else if (node.op === 'Split' && place !== undefined && choice.gatherAlong !== null) partly.push(node);
    for (const [i, name] of node.inputs.entries()) want(name, move?.asked[i] ?? null);
    for (const name of valuesRead(node)) if (!node.inputs.includes(name)) want(name, null);
  }
  return { moved, partly };
}

function samePlace(one: Place | null, other: Place): boolean {
  return one !== null && one.axis === other.axis && one.rank === other.rank;
}

function moveOf(builder: GraphBuilder, node: Node, place: Place, { tokens, gatherAlong }: TokenChoice): Moved | null {
  if (place.axis <= 1 && isPositionWise(builder, node, tokens)) {
    const asked = node.inputs.map((name) => {
      const shape = builder.types.get(name)?.shape;
      const layout = name === '' ? null : layoutOf(builder, name, tokens);
      if (!shape || (layout === null && !spansRows(builder, name, tokens))) return null;
      return { axis: layout === 'flat' ? 0 : 1, rank: shape.length };
    });
    return { asked, along: false };
  }
  const asked = gatherAlong === null ? null : askedAlong(builder, node, place, tokens);
  return asked === null ? null : { asked, along: true };
}

/** Rows of `value` at the targets: [batch, 1, …] or [batch, …]. */
function gatherTargets(builder: GraphBuilder, value: string, layout: Layout): string {
  const rows = batchIndex(builder);
  if (layout === 'nested') {
    const last = builder.constant('int64', [-1]);
    const parts = [rows, feeds.targets].map((one) => builder.op('Unsqueeze', [one, last]));
    return builder.op('GatherND', [value, builder.op('Concat', parts, { axis: 2 })]);
  }
  const length = builder.op('Shape', [idsRead(builder)], { start: 1, end: 2 });
  const flat = builder.op('Add', [builder.op('Mul', [rows, length]), feeds.targets]);
  return builder.op('Gather', [value, builder.op('Squeeze', [flat, builder.constant('int64', [1])])], { axis: 0 });
}

/** 0 … batch − 1 as [batch, 1]. */
function batchIndex(builder: GraphBuilder): string {
  const count = builder.op('Squeeze', [builder.op('Shape', [feeds.ids], { start: 0, end: 1 })]);
  const range = builder.op('Range', [builder.constant('int64', 0), count, builder.constant('int64', 1)]);
  return builder.op('Unsqueeze', [range, builder.constant('int64', [1])]);
}
