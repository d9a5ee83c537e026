/**
 * Replays a frozen LM's graph into a new one whose inputs are the host's feeds, with prompt rows spliced into the word
 * embeddings on the way. On the way shape arithmetic that is already known becomes constants, so that later passes can
 * cut activations without keeping them alive for their shapes.
 */
import { PtunedError } from '../errors.ts';
import type { ModelInput } from '../models/manifest.ts';
import { createBuilder, emptyGraph, type GraphBuilder } from '../onnx/builder.ts';
import { addDims, type Dim, dimKey, sameShape, symbol } from '../onnx/dim.ts';
import { type DType, dtypeCode } from '../onnx/dtype.ts';
import type { Model, Node, ValueInfo } from '../onnx/ir.ts';
import { tensorOf, typeOf, typeOfTensor } from '../onnx/types.ts';
import { inferNode } from '../ops/registry.ts';
import { batch, feeds, idsInput, sequence, tableRows } from './feeds.ts';

export interface LmGraph {
  /** Canonical form. */
  model: Model;
  inputs: readonly ModelInput[];
  logits: string;
  /** Output of the word-embedding lookup. */
  embedding: { output: string; width: number };
}

export interface AssembleOptions {
  /** empty: past inputs become empty constants. inputs: they stay inputs, and positions are fed. */
  past: 'empty' | 'inputs';
}

export interface Assembled {
  builder: GraphBuilder;
  /** [batch, sequence, vocabulary] */
  logits: string;
}

/** @throws PtunedError import_refused for an input whose role is not known */
export function assemble(lm: LmGraph, options: AssembleOptions): Assembled {
  const builder = createBuilder(emptyGraph('lm'), inferNode);
  for (const [name, tensor] of lm.model.graph.initializers) {
    builder.graph.initializers.set(name, tensor);
    builder.types.set(name, typeOfTensor(tensor));
  }
  const renamed = new Map<string, string>();
  const cached = options.past === 'inputs';
  idsInput(builder, feeds.ids);
  builder.input(feeds.mask, typeOf('int64', [batch, cached ? symbol('total') : sequence]));
  if (cached) idsInput(builder, feeds.positions);
  idsInput(builder, feeds.slots);
  builder.input(feeds.table, typeOf('float32', [tableRows, lm.embedding.width]));
  for (const input of lm.inputs) renamed.set(input.name, inputValue(builder, lm, input, cached));

  for (const node of lm.model.graph.nodes) {
    const copy: Node = {
      ...node,
      inputs: node.inputs.map((name) => renamed.get(name) ?? name),
      outputs: [...node.outputs],
      attributes: new Map(node.attributes),
    };
    if (!foldKnown(builder, copy)) builder.append(copy);
    if (node.outputs.includes(lm.embedding.output)) {
      renamed.set(lm.embedding.output, splice(builder, lm.embedding.output));
    }
  }
  return { builder, logits: renamed.get(lm.logits) ?? lm.logits };
}

function inputValue(builder: GraphBuilder, lm: LmGraph, input: ModelInput, cached: boolean): string {
  const declared = lm.model.graph.inputs.find((one) => one.name === input.name);
  if (declared === undefined)
    throw new PtunedError('model_mismatch', `The graph has no input "${input.name}", which its manifest names.`);
  const as = (value: string) => castTo(builder, value, declared.dtype);
  switch (input.role) {
    case 'input_ids':
      return as(feeds.ids);
    case 'attention_mask':
      return as(feeds.mask);
    case 'position_ids':
      return as(cached ? feeds.positions : positions(builder));
    case 'token_type_ids':
      return as(builder.op('Mul', [feeds.ids, builder.constant('int64', 0)]));
    case 'past':
      return cached ? pastInput(builder, declared) : emptyPast(builder, declared);
  }
}

function castTo(builder: GraphBuilder, value: string, dtype: DType): string {
  return builder.type(value).dtype === dtype ? value : builder.op('Cast', [value], { to: dtypeCode(dtype) });
}

/** max(cumsum(mask) − 1, 0): positions of tokens counted without padding. */
function positions(builder: GraphBuilder): string {
  const count = builder.op('CumSum', [feeds.mask, builder.constant('int64', 1)]);
  return builder.op('Max', [builder.op('Sub', [count, builder.constant('int64', 1)]), builder.constant('int64', 0)]);
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

/**
 * Where(slot ≥ 0, table[slot], embedding). The rows are picked by a product with a one-hot selector, so that the table's
 * gradient is one product too and needs no scatter.
 */
function splice(builder: GraphBuilder, embedding: string): string {
  const last = builder.constant('int64', [-1]);
  const type = builder.type(embedding);
  const slots = builder.op('Unsqueeze', [feeds.slots, last]);
  const rows = builder.op('Shape', [feeds.table], { start: 0, end: 1 });
  const zero = builder.constant('int64', 0);
  const range = builder.op('Range', [zero, builder.op('Squeeze', [rows]), builder.constant('int64', 1)]);
  builder.types.set(range, typeOf('int64', [tableRows]));
  const selector = builder.op('Cast', [builder.op('Equal', [slots, range])], { to: 1 });
  let picked = castTo(builder, builder.op('MatMul', [selector, feeds.table]), type.dtype);
  let here = builder.op('GreaterOrEqual', [slots, zero]);
  if (type.shape === null || !sameShape(type.shape, builder.shape(picked))) {
    // Ids that were flattened before the lookup: [batch · sequence, width].
    const shape = builder.op('Shape', [embedding]);
    picked = builder.op('Reshape', [picked, shape]);
    const leading = builder.op('Slice', [shape, zero1(builder), last]);
    here = builder.op('Reshape', [here, builder.op('Concat', [leading, builder.constant('int64', [1])], { axis: 0 })]);
    if (type.shape !== null) builder.types.set(picked, type);
  }
  return builder.op('Where', [here, picked, embedding]);
}

function zero1(builder: GraphBuilder): string {
  return builder.constant('int64', [0]);
}

/** Replaces a node by a constant, or a shape by one made from the ids' shape. True when the node is not needed any more. */
function foldKnown(builder: GraphBuilder, node: Node): boolean {
  if (node.outputs.length !== 1 || node.domain !== '') return false;
  const name = node.outputs[0]!;
  const inputs = node.inputs.map((one) => (one === '' ? null : builder.type(one)));
  const type = inferNode(node, inputs)[0]!;
  if (type.value === null || type.shape === null || (type.dtype !== 'int64' && type.dtype !== 'bool')) return false;
  if (!type.shape.every((dim) => typeof dim === 'number')) return false;
  if (type.value.every((one) => typeof one === 'number')) {
    builder.graph.initializers.set(name, tensorOf(type.dtype, type.shape as number[], type.value as number[]));
    builder.types.set(name, type);
    return true;
  }
  if (type.shape.length > 1 || type.value.length === 0) return false;
  const parts = type.value.map((dim) => dimSource(builder, dim));
  if (!parts.every((part) => part !== null)) return false;
  const list = parts.length === 1 ? parts[0]! : builder.op('Concat', parts as string[], { axis: 0 });
  const source = type.shape.length === 0 ? builder.op('Squeeze', [list, zero1(builder)]) : list;
  builder.append({
    op: 'Identity',
    domain: '',
    name: node.name,
    inputs: [source],
    outputs: [name],
    attributes: new Map(),
  });
  return true;
}

/** One known dimension as an int64 [1] value made from the feeds alone. */
function dimSource(builder: GraphBuilder, dim: Dim): string | null {
  if (typeof dim === 'number') return builder.constant('int64', [dim]);
  const key = dimKey(dim);
  if (key === 'batch') return sharedShape(builder, 0);
  if (key === 'sequence') return sharedShape(builder, 1);
  if (key === dimKey(addDims(sequence, 1))) {
    return builder.op('Add', [sharedShape(builder, 1), builder.constant('int64', [1])]);
  }
  return null;
}

const shared = new WeakMap<GraphBuilder, Map<number, string>>();

function sharedShape(builder: GraphBuilder, axis: number): string {
  const made = shared.get(builder) ?? new Map<number, string>();
  shared.set(builder, made);
  const found = made.get(axis) ?? builder.op('Shape', [feeds.ids], { start: axis, end: axis + 1 });
  made.set(axis, found);
  return found;
}
