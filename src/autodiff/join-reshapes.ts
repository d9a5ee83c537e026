/** A reshape of a reshape is one of what came before: passes leave chains of them, and each is a node to be run. */
import type { GraphBuilder } from '../onnx/builder.ts';
import type { Node } from '../onnx/ir.ts';
import { knownNumbers } from '../ops/shared.ts';

/** Rewrites the builder's graph; what falls away is left for the prune pass. */
export function joinReshapes(builder: GraphBuilder): void {
  /** Inputs of reshapes by their outputs. */
  const sources = new Map<string, string>();
  builder.graph.nodes = builder.graph.nodes.map((node): Node => {
    if (node.op !== 'Reshape' || node.domain !== '') return node;
    const [from, shape] = node.inputs as [string, string];
    // A 0 in the shape stands for an axis of the input.
    const source = knownNumbers(builder.types.get(shape))?.every((dim) => dim !== 0) ? sources.get(from) : undefined;
    sources.set(node.outputs[0]!, source ?? from);
    return source === undefined ? node : { ...node, inputs: [source, shape] };
  });
}
