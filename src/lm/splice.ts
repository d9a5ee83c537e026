/** Where the prompt table enters: its rows take the place of word embeddings. Forward, and the way back to the table. */
import { appendGradient, type GradientRequest, rowProduct } from '../autodiff/gradient.ts';
import { prune } from '../autodiff/prune.ts';
import type { GraphBuilder } from '../onnx/builder.ts';
import type { Dim } from '../onnx/dim.ts';
import { typeOf } from '../onnx/types.ts';
import { castTo } from '../ops/shared.ts';
import { feeds, pseudoCount, tableRows } from './feeds.ts';
import { atTokens, type TokenChoice } from './focus.ts';
import type { PackedGraph } from './pack.ts';
import { type Tokens, tokensOf } from './position-wise.ts';

/** The word embeddings with the prompt in them [.., .., width], and the table's row at each place [.., ..], -1 for none. */
export interface Spliced {
  value: string;
  slots: string;
}

/** Where(slot ≥ 0, table[slot], embedding), with `slots` of the shape the embedding has before its last axis. */
export function splice(builder: GraphBuilder, embedding: string, slots: string): Spliced {
  const rows = builder.op('MatMul', [rowSelector(builder, slots), feeds.table]);
  const picked = castTo(builder, rows, builder.type(embedding).dtype);
  const isPseudo = builder.op('Unsqueeze', [isSlot(builder, slots), builder.constant('int64', [-1])]);
  return { value: builder.op('Where', [isPseudo, picked, embedding]), slots };
}

/**
 * Gradient of the table [rows, width]. It is that of the embeddings at pseudo tokens: what is position-wise on the way from
 * the first mixing of positions back to them is computed at these alone.
 */
export function tableGradient(
  builder: GraphBuilder,
  spliced: Spliced | null,
  packing: PackedGraph,
  request: Omit<GradientRequest, 'wrt'>,
): string {
  const { table } = feeds;
  if (spliced === null || builder.shape(spliced.slots).length !== 2)
    return appendGradient(builder, { ...request, wrt: [table] }).get(table)!;
  const found = packing.find(spliced.value);
  const value = found ?? spliced.value;
  const [first, second] = builder.shape(value) as [Dim, Dim];
  const whole = appendGradient(builder, { ...request, wrt: [value] }).get(value)!;
  // What no one asked for reads values on the way, too.
  builder.output(whole);
  prune(builder.graph);
  const slots = found === null ? spliced.slots : packing.pack(spliced.slots);
  const choice = pseudoTokens(builder, slots, tokensOf(first, second));
  const rows = (name: string) => builder.op('Squeeze', [name, builder.constant('int64', [0])]);
  const gradient = castTo(builder, rows(atTokens(builder, whole, choice)), 'float32');
  const selector = rowSelector(builder, rows(choice.gather(slots, 'nested')));
  return rowProduct(builder, selector, gradient);
}

/** Pseudo tokens of `slots` [.., ..], in its order. */
function pseudoTokens(builder: GraphBuilder, slots: string, tokens: Tokens): TokenChoice {
  const places = (of: string, rank: number) => {
    const found = builder.op('NonZero', [of]);
    builder.types.set(found, typeOf('int64', [rank, pseudoCount]));
    return builder.op('Transpose', [found], { perm: [1, 0] });
  };
  const nested = places(isSlot(builder, slots), 2);
  const flat = places(builder.op('Reshape', [isSlot(builder, slots), builder.constant('int64', [-1])]), 1);
  return {
    tokens,
    gather(value, layout) {
      const rows = builder.op('GatherND', [value, layout === 'nested' ? nested : flat]);
      return layout === 'nested' ? builder.op('Unsqueeze', [rows, builder.constant('int64', [0])]) : rows;
    },
    gatherAlong: null,
    nested: [1, -1],
  };
}

/** One-hot rows [.., rows]: the table is read, and its gradient made, by one product, which needs no scatter. */
function rowSelector(builder: GraphBuilder, slots: string): string {
  const rows = builder.op('Shape', [feeds.table], { start: 0, end: 1 });
  const [zero, one] = [builder.constant('int64', 0), builder.constant('int64', 1)];
  const range = builder.op('Range', [zero, builder.op('Squeeze', [rows]), one]);
  builder.types.set(range, typeOf('int64', [tableRows]));
  const column = builder.op('Unsqueeze', [slots, builder.constant('int64', [-1])]);
  return builder.op('Cast', [builder.op('Equal', [column, range])], { to: 1 });
}

function isSlot(builder: GraphBuilder, slots: string): string {
  return builder.op('GreaterOrEqual', [slots, builder.constant('int64', 0)]);
}
