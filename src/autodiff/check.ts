/** Invariants of a graph between passes. A violation is a defect of this project, or of the file where it was just read. */
import { describeNode, type Graph } from '../onnx/ir.ts';
import { valuesRead } from './prune.ts';

/** @throws Error naming the node when a value is assigned twice, read before it exists, or an output is missing */
export function checkGraph(graph: Graph, pass: string): void {
  const known = new Set([...graph.inputs.map((input) => input.name), ...graph.initializers.keys()]);
  if (known.size !== graph.inputs.length + graph.initializers.size) {
    throw new Error(`after ${pass}: an input and an initializer have the same name`);
  }
  for (const node of graph.nodes) {
    for (const name of valuesRead(node)) {
      if (!known.has(name))
        throw new Error(`after ${pass}: ${describeNode(node)} reads "${name}", which nothing before it yields`);
    }
    for (const name of node.outputs) {
      if (name === '') continue;
      if (known.has(name)) throw new Error(`after ${pass}: ${describeNode(node)} yields "${name}" a second time`);
      known.add(name);
    }
  }
  for (const output of graph.outputs) {
    if (!known.has(output.name)) throw new Error(`after ${pass}: nothing yields the output "${output.name}"`);
  }
}
