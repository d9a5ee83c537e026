/** Two graphs as one: what the first yields is what the second reads. */
import { renameValues } from '../autodiff/inline.ts';
import type { Graph, Model } from '../onnx/ir.ts';

export interface Joint {
  /** What the second graph's values and nodes are called in the whole: this, then their name. */
  prefix: string;
  /** Inputs of the second graph that are values of the first. */
  wires: ReadonlyMap<string, string>;
  /** Names its other inputs take in the whole; an input of the first with that name is the same input. */
  inputs: ReadonlyMap<string, string>;
  /** Weights of the second that the first has too, byte for byte. */
  shared: ReadonlyMap<string, string>;
}

/** The whole has the first graph's names as they are, and the second's outputs under their own. Both models are prepared. */
export function joinGraphs(first: Model, second: Model, joint: Joint): Model {
  const outputs = new Set(second.graph.outputs.map((one) => one.name));
  const known = new Map([...joint.inputs, ...joint.wires, ...joint.shared]);
  const rename = (name: string) => {
    if (name === '' || outputs.has(name)) return name;
    return known.get(name) ?? `${joint.prefix}${name}`;
  };
  const taken = new Set(first.graph.inputs.map((one) => one.name));
  const added = second.graph.inputs
    .filter((one) => !joint.wires.has(one.name))
    .map((one) => ({ ...one, name: rename(one.name) }))
    .filter((one) => !taken.has(one.name));
  const initializers = new Map(first.graph.initializers);
  for (const [name, tensor] of second.graph.initializers)
    if (!joint.shared.has(name)) initializers.set(rename(name), tensor);
  const nodes = second.graph.nodes.map((node) => ({
    ...renameValues(node, rename),
    name: node.name === '' ? '' : `${joint.prefix}${node.name}`,
  }));
  const graph: Graph = {
    name: first.graph.name,
    inputs: [...first.graph.inputs, ...added],
    outputs: second.graph.outputs,
    initializers,
    nodes: [...first.graph.nodes, ...nodes],
  };
  const opsets = new Map(first.opsets);
  for (const [domain, version] of second.opsets) opsets.set(domain, Math.max(version, opsets.get(domain) ?? 0));
  return { ...second, irVersion: Math.max(first.irVersion, second.irVersion), opsets, graph };
}
