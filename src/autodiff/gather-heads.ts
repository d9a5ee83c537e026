/**
 * Rows that are picked by token and then turned so that heads come first, or turned back and picked, are picked in one go:
 * a row of a head moves once instead of twice, or three times where one product yields queries, keys and values.
 */
import type { GraphBuilder } from '../onnx/builder.ts';
import { dimKey, sameDim } from '../onnx/dim.ts';
import { attributesOf, intAttribute, intsAttribute, type Node } from '../onnx/ir.ts';
import { rewriteNodes, type View } from './raise/view.ts';

/** Exchanges the axes of heads and tokens. */
const headsAndTokens = '0,2,1,3';

/** Rewrites the builder's graph, gradients included; what falls away is left for the prune pass. */
export function gatherHeads(builder: GraphBuilder): void {
  const places = createPlaces(builder);
  rewriteNodes(builder, (view, node) => headsFirst(view, node, places) ?? tokensFirst(view, node, places));
}

/** [B, N, S, D] of rows [T, N, D] that stand at places [B, S]. */
function headsFirst(view: View, node: Node, places: Places): Node | null {
  const isTurn = node.op === 'Transpose' && String(intsAttribute(node, 'perm')) === headsAndTokens;
  const found = isTurn ? standing(view, node.inputs[0]!) : null;
  if (found === null) return null;
  const { builder } = view;
  const { at, heads, size } = found;
  const { rows, among, first } = beforeSplit(view, found);
  const flat = builder.op('Reshape', [rows, builder.constant('int64', [-1, size])]);
  const indices = places.ofHeads(at, { heads, among, first });
  return { ...node, op: 'Gather', inputs: [flat, indices], attributes: attributesOf({ axis: 0 }) };
}

/** Heads of one product for queries, keys and values are picked from that product, which then need not be split. */
function beforeSplit({ builder, producer }: View, { rows, heads, size }: Standing): HeadRows & { rows: string } {
  const alone = { rows, heads, among: heads, first: 0 };
  let part = rows;
  for (let node = producer(part); node?.op === 'Reshape'; node = producer(part)) part = node.inputs[0]!;
  const split = producer(part);
  const last = (name: string) => builder.types.get(name)?.shape?.at(-1);
  if (split?.op !== 'Split' || last(part) !== heads * size) return alone;
  const axis = intAttribute(split, 'axis', 0);
  if (axis !== -1 && axis !== builder.shape(part).length - 1) return alone;
  const counts = split.outputs.map((name) => Number(last(name)) / size);
  if (!counts.every(Number.isInteger)) return alone;
  const before = counts.slice(0, split.outputs.indexOf(part));
  const sum = (list: readonly number[]) => list.reduce((total, count) => total + count, 0);
  return { rows: split.inputs[0]!, heads, among: sum(counts), first: sum(before) };
}

/** Rows [T, N, D] at places [T] of x [B, N, S, D]. */
function tokensFirst(view: View, node: Node, places: Places): Node | null {
  const { builder, producer } = view;
  if (node.op !== 'Gather' || intAttribute(node, 'axis', 0) !== 0) return null;
  const [rows, at] = node.inputs as [string, string];
  const flat = producer(rows);
  const turn = flat?.op === 'Reshape' ? producer(flat.inputs[0]!) : undefined;
  if (turn?.op !== 'Transpose' || String(intsAttribute(turn, 'perm')) !== headsAndTokens) return null;
  const x = turn.inputs[0]!;
  const [, heads, , size] = builder.shape(x);
  const [, ...rest] = builder.types.get(rows)?.shape ?? [];
  const isKept = rest.length === 2 && rest[0] === heads && rest[1] === size;
  if (!isKept || typeof heads !== 'number' || typeof size !== 'number') return null;
  if (builder.types.get(at)?.shape?.length !== 1) return null;
  const all = builder.op('Reshape', [x, builder.constant('int64', [-1, size])]);
  return { ...node, inputs: [all, places.ofTokens(at, x, heads)] };
}

interface Standing {
  /** [T, N, D] */
  rows: string;
  /** [B, S] */
  at: string;
  heads: number;
  size: number;
}

/** A value [B, S, N, D] as rows at places. */
function standing({ builder, producer }: View, value: string): Standing | null {
  const shape = builder.types.get(value)?.shape;
  const node = producer(value);
  if (shape?.length !== 4 || node === undefined) return null;
  const gather = node.op === 'Reshape' ? producer(node.inputs[0]!) : node;
  if (gather?.op !== 'Gather' || intAttribute(gather, 'axis', 0) !== 0) return null;
  const [rows, given] = gather.inputs as [string, string];
  const flat = producer(given);
  // Places [B · S] are those of [B, S] in a row.
  const at = node === gather ? given : flat?.op === 'Reshape' ? flat.inputs[0]! : '';
  const [b, s] = builder.types.get(at)?.shape ?? [];
  const [, heads, size] = builder.types.get(rows)?.shape ?? [];
  if (b === undefined || s === undefined || !sameDim(b, shape[0]!) || !sameDim(s, shape[1]!)) return null;
  if (builder.shape(at).length !== 2 || builder.shape(rows).length !== 3) return null;
  if (typeof heads !== 'number' || typeof size !== 'number' || heads !== shape[2] || size !== shape[3]) return null;
  return { rows, at, heads, size };
}

/** Which rows of a token are its heads: those from `first` on, of the rows `among` which they are. */
interface HeadRows {
  heads: number;
  among: number;
  first: number;
}

interface Places {
  /** Of token places [B, S] those of its heads' rows: place · among + first + head, [B, N, S]. */
  ofHeads(at: string, rows: HeadRows): string;
  /** Of token places [T] in x [B, N, S, D] those of its heads' rows: (row · N + head) · S + position, [T, N]. */
  ofTokens(at: string, x: string, heads: number): string;
}

/** Layers share them. */
function createPlaces(builder: GraphBuilder): Places {
  const made = new Map<string, string>();
  const once = (key: string, make: () => string) => {
    const found = made.get(key) ?? make();
    made.set(key, found);
    return found;
  };
  const constant = (...values: number[]) => builder.constant('int64', values);
  const count = (heads: number, first = 0) => constant(...Array.from({ length: heads }, (_, head) => first + head));
  return {
    ofHeads: (at, { heads, among, first }) =>
      once(`heads ${at} ${heads} ${among} ${first}`, () => {
        const rows = builder.op('Mul', [builder.op('Unsqueeze', [at, constant(1)]), constant(among)]);
        return builder.op('Add', [rows, builder.op('Unsqueeze', [count(heads, first), constant(1)])]);
      }),
    ofTokens: (at, x, heads) =>
      once(`tokens ${at} ${dimKey(builder.shape(x)[2]!)} ${heads}`, () => {
        const length = builder.op('Shape', [x], { start: 2, end: 3 });
        const row = builder.op('Div', [at, length]);
        const position = builder.op('Sub', [at, builder.op('Mul', [row, length])]);
        const first = builder.op('Add', [
          builder.op('Mul', [builder.op('Mul', [row, constant(heads)]), length]),
          position,
        ]);
        const step = builder.op('Mul', [count(heads), length]);
        return builder.op('Add', [builder.op('Unsqueeze', [first, constant(1)]), step]);
      }),
  };
}
