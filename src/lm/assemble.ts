/**
 * Replays a frozen LM's graph into a new one whose inputs are the host's feeds, with prompt rows spliced into the word
 * embeddings on the way.
 */
import { lowerings } from '../autodiff/lower/registry.ts';
import { namesOf } from '../autodiff/prune.ts';
import { replay } from '../autodiff/replay.ts';
import { PtunedError } from '../errors.ts';
import type { ModelInput, Redundancy } from '../models/manifest.ts';
import { createBuilder, emptyGraph, type GraphBuilder } from '../onnx/builder.ts';
import { addDims, type Dim, dimKey, sameShape, shapeText, symbol, unknownDim } from '../onnx/dim.ts';
import type { Model, Node, ValueInfo } from '../onnx/ir.ts';
import { tensorOf, typeOf } from '../onnx/types.ts';
import { inferNode } from '../ops/registry.ts';
import { castTo } from '../ops/shared.ts';
import { batch, decoderSequence, feeds, idsInput, idsRead, sequence, tableRows } from './feeds.ts';
import { type PrefixValues, prefixValues } from './prefix.ts';
import { type Spliced, splice } from './splice.ts';

export interface LmGraph {
  /** Canonical form. */
  model: Model;
  inputs: readonly ModelInput[];
  logits: string;
  /** Tokens that are left out of batches, see pack.ts; undefined: none. */
  redundant?: Redundancy | undefined;
  /** What an encoder hands to its decoder, where both are known; null otherwise. */
  encoded: string | null;
  /** The word-embedding lookup: its output, the ids it looks up, the axis of the table that they count. */
  embedding: { output: string; ids: string; width: number; axis: 0 | 1 };
}

export interface AssembleOptions {
  /**
   * empty: past inputs become empty constants. inputs: they stay inputs, and positions are fed. prefix: the table feed
   * holds keys and values that stand before every row, and nothing is spliced into the word embeddings.
   */
  past: 'empty' | 'inputs' | 'prefix';
  /** Fused ops become primitives that have gradient rules. Default true. */
  lower?: boolean;
}

export interface Assembled {
  builder: GraphBuilder;
  /** [batch, sequence, vocabulary], the decoder's sequence where there is a decoder. */
  logits: string;
  /** Where the table enters, null where it stands before every row. */
  spliced: Spliced | null;
  /** A value of the LM's graph in the builder. */
  nameOf(name: string): string;
}

/** Whether ids for a decoder are fed beside those of the text. */
export function hasDecoder(lm: Pick<LmGraph, 'inputs'>): boolean {
  return lm.inputs.some((input) => input.role === 'decoder_input_ids');
}

/** Ops through which ids may pass on the way to the lookup: they keep their values and go where slots can follow. */
export const idsPass: ReadonlySet<string> = new Set([
  ...['Reshape', 'Cast', 'Identity', 'Squeeze', 'Unsqueeze', 'Flatten', 'Transpose', 'Slice'],
]);

/** Ops that may change ids but leave them in their places: a table that is named by the user may be looked up behind them. */
export const idsStay: ReadonlySet<string> = new Set(['Add', 'Sub', 'Mul', 'Max', 'Min', 'Clip', 'Where', 'Mod', 'Abs']);

/** @throws PtunedError import_refused for an input whose role is not known */
export function assemble(lm: LmGraph, options: AssembleOptions): Assembled {
  const builder = createBuilder(emptyGraph('lm'), inferNode, namesOf(lm.model.graph));
  const renamed = new Map<string, string>();
  const cached = options.past === 'inputs';
  idsInput(builder, feeds.ids);
  builder.input(feeds.mask, typeOf('int64', [batch, cached ? symbol('total') : sequence]));
  if (cached) idsInput(builder, feeds.positions);
  if (hasDecoder(lm)) builder.input(feeds.decoderIds, typeOf('int64', [batch, decoderSequence]));
  const prefix = options.past === 'prefix' ? prefixValues(builder, lm) : null;
  if (prefix === null) {
    idsInput(builder, feeds.slots);
    builder.input(feeds.table, typeOf('float32', [tableRows, lm.embedding.width]));
  }
  for (const input of lm.inputs) renamed.set(input.name, inputValue(builder, lm, input, { cached, prefix }));

  const slots = prefix === null ? followSlots(builder, lm, renamed) : null;
  let spliced = null as Spliced | null;
  replay(builder, lm.model.graph, {
    renamed,
    lower: (key) => (options.lower ?? true) || (cached && lowerings.get(key)?.countsKeys === true),
    keyMask: cached ? feeds.mask : null,
    dimSource: dimSourceOf(builder),
    after(node) {
      slots?.follow(node);
      if (slots === null || !node.outputs.includes(lm.embedding.output)) return;
      const embedding = renamed.get(lm.embedding.output) ?? lm.embedding.output;
      spliced = splice(builder, embedding, slots.at(lm.embedding.ids));
      renamed.set(lm.embedding.output, spliced.value);
    },
  });
  const nameOf = (name: string) => renamed.get(name) ?? name;
  const logits = nameOf(lm.logits);
  settleLogits(builder, logits);
  return { builder, logits, spliced, nameOf };
}

/** Slots take the way of the ids to the lookup, so that they have the place of each id there. */
function followSlots(builder: GraphBuilder, lm: LmGraph, renamed: ReadonlyMap<string, string>) {
  const slots = new Map<string, string>();
  for (const input of lm.inputs) if (input.role === 'input_ids') slots.set(input.name, feeds.slots);
  const sameShapes = (slot: string, value: string) => {
    const [a, b] = [builder.type(slot).shape, builder.type(renamed.get(value) ?? value).shape];
    return a !== null && b !== null && sameShape(a, b);
  };
  return {
    follow(node: Node): void {
      const found = node.inputs.map((name) => slots.get(name)).find((name) => name !== undefined);
      if (found === undefined) return;
      if (node.op === 'Cast' || (idsStay.has(node.op) && sameShapes(found, node.outputs[0]!))) {
        slots.set(node.outputs[0]!, found);
        return;
      }
      if (!idsPass.has(node.op)) return;
      const rest = node.inputs.slice(1).map((name) => renamed.get(name) ?? name);
      const name = builder.fresh('slots');
      builder.append({ ...node, name, inputs: [found, ...rest], outputs: [name] });
      slots.set(node.outputs[0]!, name);
    },
    at(ids: string): string {
      const found = slots.get(ids);
      if (found === undefined) throw new Error(`the slots do not reach "${ids}"`);
      return found;
    },
  };
}

/** Logits are [batch, sequence, vocabulary] by definition, also where shape arithmetic loses track of it. */
function settleLogits(builder: GraphBuilder, logits: string): void {
  const wanted = builder.shape(idsRead(builder));
  const { dtype, shape } = builder.type(logits);
  if (shape !== null && (shape.length !== 3 || wanted.some((_, i) => typeof shape[i] === 'number'))) {
    throw new PtunedError(
      'import_refused',
      `The logits "${logits}" have the shape ${shapeText(shape)}; [batch, sequence, vocabulary] with batch and sequence dynamic is expected.`,
    );
  }
  builder.types.set(logits, typeOf(dtype, [...wanted, shape?.[2] ?? unknownDim()]));
}

interface Past {
  cached: boolean;
  prefix: PrefixValues | null;
}

function inputValue(builder: GraphBuilder, lm: LmGraph, input: ModelInput, { cached, prefix }: Past): string {
  const declared = lm.model.graph.inputs.find((one) => one.name === input.name);
  if (declared === undefined)
    throw new PtunedError('model_mismatch', `The graph has no input "${input.name}", which its manifest names.`);
  const as = (value: string) => castTo(builder, value, declared.dtype);
  const zero = () => builder.constant('int64', 0);
  switch (input.role) {
    case 'input_ids':
      return as(feeds.ids);
    case 'attention_mask':
      return as(prefix?.mask ?? feeds.mask);
    case 'position_ids':
      return as(cached ? feeds.positions : positions(builder, prefix));
    case 'token_type_ids':
    case 'global_attention_mask':
      return as(builder.op('Mul', [feeds.ids, zero()]));
    case 'decoder_input_ids':
      return as(feeds.decoderIds);
    case 'decoder_attention_mask':
      // Padding is on the right, where a decoder does not look from the position that is read.
      return as(builder.op('Add', [builder.op('Mul', [feeds.decoderIds, zero()]), builder.constant('int64', 1)]));
    case 'past':
      if (prefix !== null) return prefix.past.get(input.name)!;
      return cached ? pastInput(builder, declared) : emptyPast(builder, declared);
  }
}

/** max(cumsum(mask) − 1, 0): positions of tokens counted without padding, on from the prefix where there is one. */
function positions(builder: GraphBuilder, prefix: PrefixValues | null): string {
  const count = builder.op('CumSum', [feeds.mask, builder.constant('int64', 1)]);
  const own = builder.op('Max', [
    builder.op('Sub', [count, builder.constant('int64', 1)]),
    builder.constant('int64', 0),
  ]);
  return prefix === null ? own : builder.op('Add', [own, prefix.rows]);
}

function pastInput(builder: GraphBuilder, declared: ValueInfo): string {
  const shape = declared.shape?.map(
    (dim, i): Dim => (typeof dim === 'number' ? dim : i === 0 ? batch : symbol('past')),
  );
  return builder.input(declared.name, typeOf(declared.dtype, shape ?? null));
}

/** Keys or values of no tokens: [batch, heads, 0, size]. */
function emptyPast(builder: GraphBuilder, declared: ValueInfo): string {
  const shape = declared.shape;
  if (shape === null || (declared.dtype !== 'float32' && declared.dtype !== 'float16')) {
    throw new PtunedError(
      'import_refused',
      `Past input "${declared.name}" is ${declared.dtype} without a shape; float32 or float16 [batch, heads, past, size] is accepted.`,
    );
  }
  const rest = shape.slice(1).map((dim) => (typeof dim === 'number' ? dim : 0));
  const rows = builder.op('Shape', [feeds.ids], { start: 0, end: 1 });
  const dims = builder.op('Concat', [rows, builder.constant('int64', rest)], { axis: 0 });
  return builder.op('ConstantOfShape', [dims], { value: { tensor: tensorOf(declared.dtype, [1], [0]) } });
}

/** A known dimension as an int64 [1] value made from the ids' shapes alone, so that no activation is kept for its shape. */
function dimSourceOf(builder: GraphBuilder): (dim: Dim) => string | null {
  const made = new Map<string, string>();
  const shape = (axis: number, feed: string = feeds.ids) => {
    const found = made.get(`${feed} ${axis}`) ?? builder.op('Shape', [feed], { start: axis, end: axis + 1 });
    made.set(`${feed} ${axis}`, found);
    return found;
  };
  const next = dimKey(addDims(sequence, 1));
  const behindPrefix = dimKey(addDims(tableRows, sequence));
  return (dim) => {
    if (typeof dim === 'number') return builder.constant('int64', [dim]);
    const key = dimKey(dim);
    if (key === 'batch') return shape(0);
    if (key === 'sequence') return shape(1);
    if (key === 'decoder_sequence') return shape(1, feeds.decoderIds);
    if (key === 'rows') return shape(0, feeds.table);
    if (key === behindPrefix) return builder.op('Add', [shape(0, feeds.table), shape(1)]);
    return key === next ? builder.op('Add', [shape(1), builder.constant('int64', [1])]) : null;
  };
}
