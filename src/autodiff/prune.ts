/** Removes nodes and initializers that no output depends on. */
import type { Graph, Node } from '../onnx/ir.ts';

/** Keeps only what the graph's outputs need. Changes `graph` in place; its inputs stay. */
export function prune(graph: Graph): void {
  const needed = new Set(graph.outputs.map((output) => output.name));
  const kept: Node[] = [];
  for (const node of [...graph.nodes].reverse()) {
    if (!node.outputs.some((name) => needed.has(name))) continue;
    kept.push(node);
    for (const name of valuesRead(node)) needed.add(name);
  }
  graph.nodes = kept.reverse();
  for (const name of graph.initializers.keys()) if (!needed.has(name)) graph.initializers.delete(name);
}

/** Values a node reads, those that its subgraphs take from the outer scope included. */
export function valuesRead(node: Node): Set<string> {
  const read = new Set(node.inputs.filter((name) => name !== ''));
  for (const attribute of node.attributes.values()) {
    if (attribute.kind === 'graph') for (const name of outerValues(attribute.value)) read.add(name);
  }
  return read;
}

/** Nodes by the values that are among their own inputs, in the order of the nodes. */
export function readersOf(nodes: readonly Node[]): Map<string, Node[]> {
  const readers = new Map<string, Node[]>();
  for (const node of nodes) {
    for (const name of new Set(node.inputs)) {
      const list = readers.get(name);
      if (list === undefined) readers.set(name, [node]);
      else list.push(node);
    }
  }
  return readers;
}

function outerValues(graph: Graph): Set<string> {
  const read = new Set(graph.outputs.map((output) => output.name));
  for (const node of graph.nodes) for (const name of valuesRead(node)) read.add(name);
  for (const input of graph.inputs) read.delete(input.name);
  for (const name of graph.initializers.keys()) read.delete(name);
  for (const node of graph.nodes) for (const name of node.outputs) read.delete(name);
  return read;
}

/** Every name a graph gives to a value or a node: what fresh names must not take. */
export function namesOf(graph: Graph): Set<string> {
  return new Set([
    ...graph.inputs.map((input) => input.name),
    ...graph.initializers.keys(),
    ...graph.nodes.flatMap((node) => [node.name, ...node.outputs]),
  ]);
}
