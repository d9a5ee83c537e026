/**
 * Computes values only at the tokens where they are needed. Everything between the last mixing of positions and the logits
 * (output projection, MLP, final norm, head) is position-wise: it is repeated for the target positions alone, and the
 * full-length original falls away. So it is between the first mixing and the embeddings in the gradient graph.
 */
import { valuesRead } from '../autodiff/prune.ts';
import type { GraphBuilder } from '../onnx/builder.ts';
import type { Node } from '../onnx/ir.ts';
import { feeds, idsRead } from './feeds.ts';
import { carrying, isPositionWise, type Layout, layoutOf, repeatNode, type Tokens } from './position-wise.ts';

/** How tokens are picked from those that values carry, and what a reshape calls the picked ones: [-1, 1] or [1, -1]. */
export interface TokenChoice {
  tokens: Tokens;
  gather(value: string, layout: Layout): string;
  nested: readonly [number, number];
}

/** Targets of a batch whose values carry [batch, sequence] tokens. The targets are a feed that must be declared. */
export function targetsInRows(builder: GraphBuilder, tokens: Tokens): TokenChoice {
  return { tokens, gather: (value, layout) => gatherTargets(builder, value, layout), nested: [-1, 1] };
}

/** `value` at the chosen tokens. The graph must hold nothing that its outputs do not need, or `value` does not. */
export function atTokens(builder: GraphBuilder, value: string, choice: TokenChoice): string {
  const { tokens } = choice;
  const focusable = focusableNodes(builder, value, tokens);
  const producers = new Map<string, Node>();
  for (const node of focusable) for (const name of node.outputs) producers.set(name, node);
  const focused = new Map<string, string>();

  const visit = (name: string): string => {
    const found = focused.get(name);
    if (found !== undefined) return found;
    const node = producers.get(name);
    const carried = carrying(builder, name, tokens);
    const layout = layoutOf(builder, carried, tokens);
    if (layout === null) return name;
    if (node === undefined) {
      const gathered = choice.gather(carried, layout);
      focused.set(name, gathered);
      return gathered;
    }
    const outputs = repeatNode(builder, node, tokens, visit, choice.nested);
    for (const [i, output] of node.outputs.entries()) focused.set(output, outputs[i]!);
    return focused.get(name)!;
  };
  return visit(value);
}

/** Nodes that are position-wise and whose results only such nodes read, from `value` upwards. */
function focusableNodes(builder: GraphBuilder, value: string, tokens: Tokens): Set<Node> {
  const readers = new Map<string, Node[]>();
  for (const node of builder.graph.nodes) {
    for (const name of valuesRead(node)) {
      const list = readers.get(name);
      if (list === undefined) readers.set(name, [node]);
      else list.push(node);
    }
  }
  const focusable = new Set<Node>();
  for (const node of [...builder.graph.nodes].reverse()) {
    const only = node.outputs.every((name) => {
      const list = readers.get(name) ?? [];
      return name === value ? list.length === 0 : list.length > 0 && list.every((reader) => focusable.has(reader));
    });
    if (only && isPositionWise(builder, node, tokens)) focusable.add(node);
  }
  return focusable;
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
