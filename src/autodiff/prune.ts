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
    if (attribute.kind !== 'graph') continue;
    for (const inner of attribute.value.nodes) for (const name of valuesRead(inner)) read.add(name);
    for (const output of attribute.value.outputs) read.add(output.name);
  }
  return read;
}
