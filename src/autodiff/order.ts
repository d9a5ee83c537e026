/** The order in which a graph's nodes are handed to the runtime. */
import type { Node } from '../onnx/ir.ts';
import { valuesRead } from './prune.ts';

/**
 * Nodes by their distance from what the graph is given; those of one distance stay in their order. The runtime sorts the
 * nodes anew for each of its some eighty passes, and seeks the place of a node among all that could run by then (a list:
 * onnxruntime's `KahnsTopologicalSort`). In the order a gradient is built in, every layer leaves nodes that could run
 * long before they are reached (derivatives of activations), so that opening a session grew with the square of the
 * layers. It executes depth first from the outputs, in either order to the same bytes.
 */
export function byDepth(nodes: readonly Node[]): Node[] {
  const depths = new Map<string, number>();
  const levels: Node[][] = [];
  for (const node of nodes) {
    let depth = 0;
    for (const name of valuesRead(node)) depth = Math.max(depth, depths.get(name) ?? 0);
    for (const name of node.outputs) depths.set(name, depth + 1);
    const level = levels[depth] ?? [];
    level.push(node);
    levels[depth] = level;
  }
  return levels.flat();
}
