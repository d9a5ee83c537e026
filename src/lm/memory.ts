/** Memory that a training step needs, from the graph alone. */

import type { InspectionRequest, MemoryEstimate } from '../models/inspection.ts';
import type { GraphBuilder } from '../onnx/builder.ts';
import { evaluateDim } from '../onnx/dim.ts';
import { byteSize } from '../onnx/dtype.ts';
import { elementCount, type Graph, intAttribute, isExternal, type Tensor } from '../onnx/ir.ts';
import { mappedBytes, memoryLimit, prepackPays } from '../onnx/prepack.ts';
import { programBuilder } from './known-shapes.ts';
import type { Program } from './programs.ts';

/** Ops whose result is their first input's bytes under another shape. */
export const views: ReadonlySet<string> = new Set(['Reshape', 'Squeeze', 'Unsqueeze', 'Flatten', 'Identity']);

/** Ops that pack their second operand. */
const products = new Set(['MatMul', 'FusedMatMul', 'Gemm']);

/** Pseudo tokens assumed: their rows weigh next to nothing. */
const tableRows = 9;

/** Node, the runtime and this project, with a session open; measured on LMs of 12 to 30 layers. */
const processBytes = 180 * 2 ** 20;

/**
 * Weights as the runtime holds them, and the largest sum of values that are alive together when the nodes run in their
 * order: a value lives from the node that yields it to the last that reads it. The spare room of the runtime's allocator is
 * not in it. Measured (`npm run check:memory`) at 8 x 32 tokens: within 5 % for LMs of 500 MB to 2.6 GB, 15 % above for 40 MB.
 */
export function estimateMemory(program: Program, request: InspectionRequest): MemoryEstimate {
  const { graph } = program.model;
  const builder = programBuilder(graph);
  const bindings = bindDims({ ...request, virtual: tableRows });
  const packed = prepackPays(mappedBytes(graph), memoryLimit());
  const weights = packed ? packedBytes(graph) : storedBytes(graph.initializers.values());
  return { ...request, weights, packed, process: processBytes, ...liveBytes(builder, bindings) };
}

function storedBytes(tensors: Iterable<Tensor>): number {
  let bytes = 0;
  for (const { dtype, dims, data } of tensors)
    bytes += isExternal(data) ? byteSize(dtype, elementCount(dims)) : data.length;
  return bytes;
}

/** A matrix has one packed copy for each way it is multiplied with; pages of what is packed are not read again. */
function packedBytes(graph: Graph): number {
  const copies = new Map<string, Tensor>();
  const rest = new Map<string, Tensor>();
  for (const node of graph.nodes) {
    for (const [i, name] of node.inputs.entries()) {
      const tensor = graph.initializers.get(name);
      if (tensor === undefined) continue;
      const packs = products.has(node.op) && i === 1 && tensor.dtype === 'float32';
      if (packs) copies.set(`${intAttribute(node, 'transB', 0)} ${name}`, tensor);
      else rest.set(name, tensor);
    }
  }
  return storedBytes(copies.values()) + storedBytes(rest.values());
}

/** Sizes of the symbols in a program's shapes. */
export function bindDims(sizes: { batch: number; length: number; virtual: number }): Map<string, number> {
  return new Map([
    ['batch', sizes.batch],
    ['sequence', sizes.length],
    ['decoder_sequence', sizes.length],
    ['rows', sizes.virtual],
    ['pseudo_tokens', sizes.batch * sizes.virtual],
  ]);
}

/** Initializers that a Cast makes float32 of when the session opens are values of their own, alive all the time. */
function liveBytes(builder: GraphBuilder, bindings: ReadonlyMap<string, number>) {
  const { nodes, outputs, initializers } = builder.graph;
  const source = new Map<string, string>();
  const owner = (name: string): string => source.get(name) ?? name;
  const constant = new Set(initializers.keys());
  const lastUse = new Map<string, number>();
  for (const [i, node] of nodes.entries()) {
    if (node.inputs.every((name) => name === '' || constant.has(name)))
      for (const name of node.outputs) constant.add(name);
    if (views.has(node.op)) source.set(node.outputs[0]!, owner(node.inputs[0]!));
    for (const name of node.inputs) lastUse.set(owner(name), i);
  }
  for (const { name } of outputs) lastUse.set(owner(name), nodes.length);
  let [live, most, unknown] = [0, 0, 0];
  const sizes = new Map<string, number>();
  for (const [i, node] of nodes.entries()) {
    for (const name of node.outputs) {
      if (name === '' || owner(name) !== name || !lastUse.has(name)) continue;
      const size = bytesOf(builder, name, bindings);
      if (size === null) unknown++;
      sizes.set(name, size ?? 0);
      live += size ?? 0;
    }
    most = Math.max(most, live);
    for (const name of new Set([...node.inputs, ...node.outputs].map(owner))) {
      if (lastUse.get(name) !== i || constant.has(name)) continue;
      live -= sizes.get(name) ?? 0;
      sizes.delete(name);
    }
  }
  return { activations: most, unknown };
}

/** Size of a value with its dimensions bound; null where one is not known before the run. */
export function bytesOf(builder: GraphBuilder, name: string, bindings: ReadonlyMap<string, number>): number | null {
  const { dtype, shape } = builder.type(name);
  const dims = shape?.map((dim) => evaluateDim(dim, bindings)) ?? [null];
  return dims.every((dim) => dim !== null) ? byteSize(dtype, elementCount(dims)) : null;
}
