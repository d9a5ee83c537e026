/**
 * Attention yields a token's result from its query alone: what it asks of the inputs of each op when tokens are chosen along
 * the axis of the queries, [rows, heads, positions, …] and the like. Keys and values are needed at all tokens.
 */
import type { GraphBuilder } from '../onnx/builder.ts';
import { type Dim, isClampOf, productOf, sameDim } from '../onnx/dim.ts';
import { attributesOf, intAttribute, intsAttribute, type Node } from '../onnx/ir.ts';
import { readsRows } from '../ops/matmul.ts';
import { knownNumbers } from '../ops/shared.ts';
import { feeds } from './feeds.ts';
import { elementwise, reductions, type Tokens } from './position-wise.ts';

/**
 * Where a value holds positions, counted in a shape of that rank whose axis 0 are rows; axis 0: one axis of both. A value
 * that is the same for all rows may have fewer axes, or 1 row.
 */
export interface Place {
  axis: number;
  rank: number;
}

/** Where a node's inputs hold the positions of its outputs, null for inputs that are needed whole. */
export type Asked = readonly (Place | null)[];

/** What a node whose outputs hold positions along an axis asks of its inputs; null where it mixes them, or is not known. */
export function askedAlong(builder: GraphBuilder, node: Node, place: Place, tokens: Tokens): Asked | null {
  const { axis, rank } = place;
  const outputs = node.outputs.filter((name) => name !== '');
  const first = node.inputs[0] ?? '';
  if (axis < 1 || !outputs.every((name) => carriesAlong(builder, name, place, tokens))) return null;
  const onlyFirst = (at: Place): Asked | null =>
    carriesAlong(builder, first, at, tokens) ? node.inputs.map((_, i) => (i === 0 ? at : null)) : null;
  const beside = (given: number) => normal(given, rank) !== axis && normal(given, rank) !== 0;
  if (elementwise.has(node.op)) return operands(builder, node.inputs, place, tokens);
  if (reductions.has(node.op)) {
    const axes = knownNumbers(builder.types.get(node.inputs[1] ?? '')) ?? [];
    return axes.length > 0 && axes.every(beside) && intAttribute(node, 'keepdims', 1) === 1 ? onlyFirst(place) : null;
  }
  switch (node.op) {
    case 'MatMul':
    case 'FusedMatMul':
      return readsRows(node) && rank > 2 && axis === rank - 2 ? onlyFirst(place) : null;
    case 'Softmax':
    case 'Split':
      return beside(intAttribute(node, 'axis', node.op === 'Split' ? 0 : -1)) ? onlyFirst(place) : null;
    case 'LayerNormalization':
    case 'SimplifiedLayerNormalization':
      return normal(intAttribute(node, 'axis', -1), rank) > axis ? onlyFirst(place) : null;
    case 'Slice': {
      const axes = knownNumbers(builder.types.get(node.inputs[3] ?? ''));
      return axes?.every(beside) ? onlyFirst(place) : null;
    }
    case 'Concat': {
      const every = node.inputs.every((name) => carriesAlong(builder, name, place, tokens));
      return every && beside(intAttribute(node, 'axis', 0)) ? node.inputs.map(() => place) : null;
    }
    case 'Transpose': {
      const order = intsAttribute(node, 'perm');
      return order !== null && order[0] === 0 ? onlyFirst({ axis: order[axis]!, rank }) : null;
    }
    case 'Reshape': {
      const from = reshapedFrom(builder, node, axis, tokens);
      return from === null ? null : onlyFirst(from);
    }
    case 'RotaryEmbedding':
      return node.domain === 'com.microsoft' && rank === 4 && axis === 2 ? turned(builder, node, place) : null;
    default:
      return null;
  }
}

/** x [rows, heads, positions, size] turned by the angles at positions [rows, positions], or from an offset [1] on. */
function turned(builder: GraphBuilder, node: Node, place: Place): Asked | null {
  const rank = builder.types.get(node.inputs[1]!)?.shape?.length;
  if (node.attributes.size > 0 || (rank !== 1 && rank !== 2)) return null;
  return [place, rank === 2 ? { axis: 1, rank: 2 } : null, null, null];
}

/** Operands of a broadcast: those with more than one position are chosen. */
function operands(builder: GraphBuilder, names: readonly string[], place: Place, tokens: Tokens): Asked | null {
  const asked: (Place | null)[] = [];
  for (const name of names) {
    const shape = name === '' ? [] : (builder.types.get(name)?.shape ?? null);
    if (shape === null) return null;
    const at = place.axis - (place.rank - shape.length);
    if (at < 0 || shape[at] === 1) {
      asked.push(null);
      continue;
    }
    const rows = shape.length < place.rank ? 1 : shape[0]!;
    const isKnown = holdsPositions(shape[at]!, tokens) && (rows === 1 || sameDim(rows, tokens.nested[0]));
    if (!isKnown) return null;
    asked.push(place);
  }
  return asked;
}

/** Whether a value has rows of its own and, along the axis, positions. */
function carriesAlong(builder: GraphBuilder, value: string, { axis, rank }: Place, { nested }: Tokens): boolean {
  const shape = builder.types.get(value)?.shape ?? null;
  if (shape === null || shape.length !== rank || axis < 1) return false;
  return sameDim(shape[0]!, nested[0]) && sameDim(shape[axis]!, nested[1]);
}

function holdsPositions(dim: Dim, { nested }: Tokens): boolean {
  return sameDim(dim, nested[1]) || isClampOf(dim, nested[1]);
}

/** The positions' axis before a reshape that splits or joins other axes only, of known sizes. */
function reshapedFrom(builder: GraphBuilder, node: Node, axis: number, { nested }: Tokens): Place | null {
  const [from, to] = [node.inputs[0]!, node.outputs[0]!].map((name) => builder.types.get(name)?.shape ?? null);
  if (!from || !to || !sameDim(from[0]!, nested[0])) return null;
  const at = from.findIndex((dim, i) => i > 0 && sameDim(dim, nested[1]));
  const isNumber = (dim: Dim, i: number, axes: number) => i === 0 || i === axes || typeof dim === 'number';
  if (at < 1 || !from.every((dim, i) => isNumber(dim, i, at)) || !to.every((dim, i) => isNumber(dim, i, axis)))
    return null;
  const before = sameDim(productOf(from.slice(1, at)), productOf(to.slice(1, axis)));
  return before ? { axis: at, rank: from.length } : null;
}

function normal(axis: number, rank: number): number {
  return axis < 0 ? axis + rank : axis;
}

/** Appends a node again for chosen tokens, one of each row. `replaced` gives its inputs there. Returns the outputs. */
export function repeatAlong(
  builder: GraphBuilder,
  node: Node,
  { axis }: Place,
  replaced: (value: string, i: number) => string,
): string[] {
  const outputs = node.outputs.map((name) => (name === '' ? '' : builder.fresh('queries')));
  const inputs = node.inputs.map((name, i) => (name === '' ? '' : replaced(name, i)));
  if (node.op === 'Reshape') {
    const shape = builder.shape(node.outputs[0]!).map((dim, i) => (i === 0 ? -1 : i === axis ? 1 : (dim as number)));
    inputs[1] = builder.constant('int64', shape);
  }
  if (node.op === 'RotaryEmbedding' && builder.shape(inputs[1]!).length === 1)
    inputs[1] = builder.op('Add', [feeds.targets, inputs[1]!]);
  const attributes = node.op === 'Reshape' ? attributesOf({}) : new Map(node.attributes);
  builder.append({ ...node, name: outputs[0]!, inputs, outputs, attributes });
  return outputs;
}

/** Elements of `value` at the targets [rows, 1] along an axis, for the rank of a place: [rows, …, 1, …]. */
export function gatherAlong(builder: GraphBuilder, value: string, { axis, rank }: Place): string {
  const shape = builder.shape(value);
  if (shape.length === rank && shape[0] !== 1) {
    const column = Array.from({ length: rank }, (_, i) => (i === 0 ? -1 : 1));
    const targets = builder.op('Reshape', [feeds.targets, builder.constant('int64', column)]);
    const part = (start: number, end: number) => (start === end ? [] : [builder.op('Shape', [value], { start, end })]);
    const dims = [...part(0, axis), builder.constant('int64', [1]), ...part(axis + 1, rank)];
    const places = builder.op('Expand', [targets, builder.op('Concat', dims, { axis: 0 })]);
    return builder.op('GatherElements', [value, places], { axis });
  }
  const missing = Array.from({ length: rank - shape.length }, (_, i) => i);
  const aligned = missing.length === 0 ? value : builder.op('Unsqueeze', [value, builder.constant('int64', missing)]);
  const targets = builder.op('Squeeze', [feeds.targets, builder.constant('int64', [1])]);
  const swapped = Array.from({ length: rank }, (_, i) => (i === 0 ? axis : i === axis ? 0 : i));
  return builder.op('Transpose', [builder.op('Gather', [aligned, targets], { axis })], { perm: swapped });
}
