/** Nodes in an order in which each finds its inputs. ONNX asks for one, onnxruntime does not: converters append their casts. */
import type { Graph, Node } from '../onnx/ir.ts';
import { valuesRead } from './prune.ts';

/**
 * The graph with its nodes in their order wherever they can be; one that waits for later nodes stands right behind the last
 * of them. What nothing yields, or waits for itself, stays last for checkGraph to name.
 */
export function sortNodes(graph: Graph): Graph {
  const known = new Set([...graph.inputs.map((input) => input.name), ...graph.initializers.keys()]);
  const sorted: Node[] = [];
  const missing = new Map<Node, number>();
  const readers = new Map<string, Node[]>();
  const place = (first: Node) => {
    const ready = [first];
    for (let node = ready.pop(); node !== undefined; node = ready.pop()) {
      sorted.push(node);
      for (const name of node.outputs) {
        if (known.has(name)) continue;
        known.add(name);
        for (const reader of (readers.get(name) ?? []).reverse()) {
          const left = missing.get(reader)! - 1;
          missing.set(reader, left);
          if (left === 0) ready.push(reader);
        }
      }
    }
  };
  for (const node of graph.nodes) {
    const wanted = [...valuesRead(node)].filter((name) => !known.has(name));
    missing.set(node, wanted.length);
    for (const name of wanted) {
      const list = readers.get(name);
      if (list === undefined) readers.set(name, [node]);
      else list.push(node);
    }
    if (wanted.length === 0) place(node);
  }
  if (sorted.length === graph.nodes.length && sorted.every((node, i) => node === graph.nodes[i])) return graph;
  const placed = new Set(sorted);
  return { ...graph, nodes: [...sorted, ...graph.nodes.filter((node) => !placed.has(node))] };
}
