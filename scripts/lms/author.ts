/** What the generated LMs' graphs are written with: a builder whose weights lie in an external file, and shared layers. */
import { createBuilder, emptyGraph, type GraphBuilder } from '../../src/onnx/builder.ts';
import { addDims, type Dim, symbol } from '../../src/onnx/dim.ts';
import { byteSize } from '../../src/onnx/dtype.ts';
import { attributesOf, elementCount } from '../../src/onnx/ir.ts';
import { type TensorType, typeOf, typeOfTensor } from '../../src/onnx/types.ts';
import { inferNode } from '../../src/ops/registry.ts';
import type { Head, Precision } from './shape.ts';

/** How a weight's elements come about: uniform with a standard deviation, one number, or another weight transposed. */
export type Init = { deviation: number } | { value: number } | { transposeOf: string };

export interface Weight {
  name: string;
  dims: number[];
  init: Init;
  /** Byte in the external file. */
  offset: number;
}

export interface Author {
  readonly builder: GraphBuilder;
  readonly weights: readonly Weight[];
  readonly precision: Precision;
  readonly head: Head;
  /** Whether keys and values of earlier tokens are inputs, and those of all tokens outputs. */
  readonly cache: boolean;
  /** Declares a weight in the external file. */
  weight(name: string, dims: number[], init?: Init): string;
  /** A scalar of the LM's precision, or a list of them. */
  float(value: number | number[]): string;
  int(value: number | number[]): string;
}

/** Name of the file beside the graph that holds the weights. */
export const weightFile = 'model.onnx_data';

/** What BERT and GPT-2 initialise their matrices with. */
const deviation = 0.02;

/** Offsets of weights: a page's start, so that they can be mapped. */
const page = 4096;

export function createAuthor(name: string, precision: Precision, head: Head, cache: boolean): Author {
  const builder = createBuilder(emptyGraph(name), inferNode);
  const weights: Weight[] = [];
  let end = 0;
  return {
    builder,
    weights,
    precision,
    head,
    cache,
    weight(name, dims, init = { deviation }) {
      const length = byteSize(precision, elementCount(dims));
      const offset = Math.ceil(end / page) * page;
      end = offset + length;
      weights.push({ name, dims, init, offset });
      const tensor = { dtype: precision, dims, data: { location: weightFile, offset, length } };
      builder.graph.initializers.set(name, tensor);
      builder.types.set(name, typeOfTensor(tensor));
      return name;
    },
    float: (value) => builder.constant(precision, value),
    int: (value) => builder.constant('int64', value),
  };
}

const [rows, length, pastLength] = ['batch_size', 'sequence_length', 'past_sequence_length'].map(symbol) as [
  Dim,
  Dim,
  Dim,
];

/** Declares an int64 [batch_size, sequence_length] input. */
export function tokenInput(a: Author, name: string): string {
  return a.builder.input(name, typeOf('int64', [rows, length]));
}

/** Declares the mask over all tokens, those of the cache included. */
export function maskInput(a: Author): string {
  const all = a.cache ? addDims(pastLength, length) : length;
  return a.builder.input('attention_mask', typeOf('int64', [rows, all]));
}

/**
 * Keys or values of all tokens [batch, heads, past + sequence, width]: with a cache those of earlier tokens are an input,
 * and all are an output.
 * @param value [batch, heads, sequence, width]
 */
export function withPast(a: Author, layer: number, part: 'key' | 'value', value: string, heads: number, width: number) {
  if (!a.cache) return value;
  const { builder } = a;
  const type = (tokens: Dim): TensorType => typeOf(a.precision, [rows, heads, tokens, width]);
  const past = builder.input(`past_key_values.${layer}.${part}`, type(pastLength));
  const all = `present.${layer}.${part}`;
  const attributes = attributesOf({ axis: 2 });
  builder.append({ op: 'Concat', domain: '', name: all, inputs: [past, value], outputs: [all], attributes });
  builder.types.set(all, type(addDims(pastLength, length)));
  builder.graph.outputs.push({ name: all, ...builder.type(all) });
  return all;
}

/** Length of an axis as an int64 scalar, as TorchScript traces `tensor.size(axis)`. */
export function size(a: Author, value: string, axis: number): string {
  return a.builder.op('Gather', [a.builder.op('Shape', [value]), a.int(axis)], { axis: 0 });
}

/** An int64 [n] shape of scalars and numbers. */
export function shape(a: Author, parts: readonly (string | number)[]): string {
  const list = parts.map((part) =>
    typeof part === 'number' ? a.int([part]) : a.builder.op('Unsqueeze', [part, a.int([0])]),
  );
  return a.builder.op('Concat', list, { axis: 0 });
}

/** Expand to a shape in which -1 keeps a length, as `tensor.expand` is exported. */
export function expand(a: Author, value: string, parts: readonly (string | number)[]): string {
  const b = a.builder;
  const wanted = b.op('Reshape', [shape(a, parts), a.int([-1])], { allowzero: 0 });
  const ones = b.op('ConstantOfShape', [b.op('Shape', [wanted])], {
    value: { tensor: { dtype: 'int64', dims: [1], data: new Uint8Array(BigInt64Array.of(1n).buffer) } },
  });
  const keeps = b.op('Equal', [wanted, b.op('Mul', [ones, a.int(-1)])]);
  return b.op('Expand', [value, b.op('Where', [keeps, ones, wanted])]);
}

/** value · weight [inputs, outputs] + bias. */
export function linear(a: Author, name: string, value: string, [inputs, outputs]: [number, number], bias: boolean) {
  const product = a.builder.op('MatMul', [value, a.weight(`${name}.weight`, [inputs, outputs])]);
  return bias ? a.builder.op('Add', [a.weight(`${name}.bias`, [outputs], { value: 0 }), product]) : product;
}

export function layerNorm(a: Author, name: string, value: string, width: number, epsilon: number): string {
  const scale = a.weight(`${name}.weight`, [width], { value: 1 });
  const bias = a.weight(`${name}.bias`, [width], { value: 0 });
  return a.builder.op('LayerNormalization', [value, scale, bias], { axis: -1, epsilon: { float: epsilon } });
}

/** value · embeddingᵀ, with the embedding's weight transposed in the file or in the graph. */
export function languageHead(a: Author, value: string, embedding: string, [rows, width]: [number, number]): string {
  const weight =
    a.head === 'tied'
      ? a.builder.op('Transpose', [embedding], { perm: [1, 0] })
      : a.weight('onnx::MatMul_head', [width, rows], { transposeOf: embedding });
  return a.builder.op('MatMul', [value, weight]);
}
