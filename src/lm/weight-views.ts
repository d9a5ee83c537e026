/**
 * Weights that are read in two forms, as onnxruntime-genai writes tied word embeddings: rows of the head's weight under
 * another shape, or its columns. The runtime would fold each form into a copy of the weight in every session.
 */
import {
  attributesOf,
  elementCount,
  type Graph,
  intAttribute,
  intsAttribute,
  type Node,
  type Tensor,
} from '../onnx/ir.ts';
import { numbersOf } from '../onnx/types.ts';

/** Reshape(W) with a constant shape becomes a weight of that shape over the same bytes. */
export function viewWeights(graph: Graph): Graph {
  const initializers = new Map(graph.initializers);
  const yielded = new Set(graph.outputs.map((one) => one.name));
  const nodes = graph.nodes.filter((node) => {
    const [weight, shape] = node.op === 'Reshape' ? node.inputs.map((name) => initializers.get(name)) : [];
    const output = node.outputs[0]!;
    const dims = weight && shape ? reshaped(weight, shape, intAttribute(node, 'allowzero', 0) === 1) : null;
    if (dims === null || yielded.has(output)) return true;
    initializers.set(output, { ...weight!, dims });
    return false;
  });
  return nodes.length === graph.nodes.length ? graph : { ...graph, initializers, nodes };
}

/** The dimensions a constant shape gives a weight; null where they are not its elements'. */
function reshaped(weight: Tensor, shape: Tensor, keepsZero: boolean): number[] | null {
  const count = elementCount(weight.dims);
  const stated = numbersOf(shape)?.map((dim, i) => (dim === 0 && !keepsZero ? (weight.dims[i] ?? 0) : dim)) ?? null;
  if (stated === null) return null;
  const rest = elementCount(stated.filter((dim) => dim !== -1));
  const dims = stated.map((dim) => (dim === -1 ? count / rest : dim));
  return elementCount(dims) === count && dims.every((dim) => Number.isInteger(dim) && dim >= 0) ? dims : null;
}

/**
 * Gather(Transpose(W), ids) becomes Transpose(Gather(W, ids, axis 1)), W [width, vocabulary]: a copy of W takes 2 GB for
 * a vocabulary of 256,000 that is 2,048 wide.
 */
export function turnLookups(graph: Graph): Graph {
  const turned = new Map<string, string>();
  for (const node of graph.nodes) {
    const perm = node.op === 'Transpose' ? (intsAttribute(node, 'perm') ?? [1, 0]) : null;
    const weight = graph.initializers.get(node.inputs[0] ?? '');
    if (perm?.join() === '1,0' && weight?.dims.length === 2) turned.set(node.outputs[0]!, node.inputs[0]!);
  }
  if (turned.size === 0) return graph;
  return { ...graph, nodes: graph.nodes.flatMap((node) => turnedLookup(node, graph, turned)) };
}

function turnedLookup(node: Node, graph: Graph, turned: ReadonlyMap<string, string>): Node[] {
  const [table, ids] = node.inputs as [string, string];
  const weight = node.op === 'Gather' && intAttribute(node, 'axis', 0) === 0 ? turned.get(table) : undefined;
  const rank = graph.inputs.find((one) => one.name === ids)?.shape?.length;
  if (weight === undefined || rank === undefined) return [node];
  const columns = `pt/columns/${node.outputs[0]}`;
  const perm = [...Array.from({ length: rank }, (_, i) => i + 1), 0];
  return [
    { ...node, inputs: [weight, ids], outputs: [columns], attributes: attributesOf({ axis: 1 }) },
    {
      op: 'Transpose',
      domain: '',
      name: `pt/rows/${node.outputs[0]}`,
      inputs: [columns],
      outputs: node.outputs,
      attributes: attributesOf({ perm }),
    },
  ];
}
