/** What is checked: a graph as a file has it, values for its inputs, and what is differentiated. */
import type { DType } from '../../src/onnx/dtype.ts';
import type { Attribute, Graph, Model, Node, Tensor, ValueInfo } from '../../src/onnx/ir.ts';
import { isExternal } from '../../src/onnx/ir.ts';
import type { Feed, TypedArray } from '../../src/onnx/session.ts';
import { numbersOf, tensorOf } from '../../src/onnx/types.ts';

export interface Subject {
  /** In any opset, fused ops included. */
  model: Model;
  /** A value for every input of the graph. */
  feeds: Record<string, Feed>;
  /** Inputs that are differentiated: all of them floats. */
  variables: readonly string[];
  /** Outputs that receive no gradient. */
  silent: ReadonlySet<string>;
}

export const sessionOptions = { threads: 1, device: 'cpu' as const };

export function typedArray(dtype: DType, values: ArrayLike<number>): TypedArray {
  if (dtype === 'float32') return Float32Array.from(values);
  if (dtype === 'float64') return Float64Array.from(values);
  if (dtype === 'int64') return BigInt64Array.from(Array.from(values), BigInt);
  return dtype === 'int32' ? Int32Array.from(values) : Uint8Array.from(values);
}

/** Fixed, irregular weights of the linear functional Σ seed · y of output number `output`. */
export function seedValues(count: number, output: number): Float64Array {
  return Float64Array.from({ length: count }, (_, i) => Math.fround(Math.sin(1.7 * i + output + 0.4) + 0.3));
}

/** Whether an output takes part in Σ seed · y. */
export function isSeeded(subject: Subject, name: string, dtype: DType): boolean {
  return !subject.silent.has(name) && (dtype === 'float32' || dtype === 'float64');
}

/** The same computation with float64 in place of float32. The runtime may have no kernel for it. */
export function inFloat64(subject: Subject): Subject {
  const feeds = Object.entries(subject.feeds).map(([name, feed]): [string, Feed] => [
    name,
    feed.dtype === 'float32' ? { ...feed, dtype: 'float64', data: Float64Array.from(feed.data as Float32Array) } : feed,
  ]);
  const model = { ...subject.model, graph: graphInFloat64(subject.model.graph) };
  return { ...subject, model, feeds: Object.fromEntries(feeds) };
}

function graphInFloat64(graph: Graph): Graph {
  const value = (one: ValueInfo): ValueInfo => (one.dtype === 'float32' ? { ...one, dtype: 'float64' } : one);
  return {
    ...graph,
    inputs: graph.inputs.map(value),
    outputs: graph.outputs.map(value),
    initializers: new Map([...graph.initializers].map(([name, tensor]) => [name, tensorInFloat64(tensor)])),
    nodes: graph.nodes.map(nodeInFloat64),
  };
}

function tensorInFloat64(tensor: Tensor): Tensor {
  if (tensor.dtype !== 'float32' || isExternal(tensor.data)) return tensor;
  return tensorOf('float64', tensor.dims, numbersOf(tensor)!);
}

function nodeInFloat64(node: Node): Node {
  const attributes = [...node.attributes].map(([name, one]): [string, Attribute] => {
    if (one.kind === 'tensor') return [name, { kind: 'tensor', value: tensorInFloat64(one.value) }];
    if (one.kind === 'graph') return [name, { kind: 'graph', value: graphInFloat64(one.value) }];
    return [name, one.kind === 'int' && name === 'to' && one.value === 1 ? { kind: 'int', value: 11 } : one];
  });
  return { ...node, attributes: new Map(attributes) };
}
