/**
 * Lifts a graph to one opset, so that every later pass and every gradient rule knows one form of each op. What older
 * forms there were, and what becomes of them, is on the ops' records.
 */
import { PtunedError } from '../errors.ts';
import type { Attribute, Graph, Model, Node, Tensor } from '../onnx/ir.ts';
import { tensorOf } from '../onnx/types.ts';
import { newestOpset, oldestOpset, opKey } from '../ops/op.ts';
import { ops } from '../ops/registry.ts';
import { withSubgraphs } from './inline.ts';
import { lowerings } from './lower/registry.ts';

/** Lowest opset of a canonical graph; newer graphs keep theirs. */
export const canonicalOpset = 21;

/** A model in canonical form; the given one is left as it is. @throws PtunedError import_refused for other opsets */
export function canonicalize(model: Model): Model {
  const from = model.opsets.get('') ?? oldestOpset;
  if (from < oldestOpset || from > newestOpset) {
    throw new PtunedError(
      'import_refused',
      `The graph has opset ${from}; opsets ${oldestOpset} to ${newestOpset} are accepted. Export the LM again.`,
    );
  }
  const opsets = new Map(model.opsets);
  opsets.set('', Math.max(from, canonicalOpset));
  opsets.set('com.microsoft', 1);
  return { ...model, opsets, graph: canonicalGraph(model.graph, from) };
}

function canonicalGraph(source: Graph, from: number): Graph {
  const graph: Graph = { ...source, initializers: new Map(source.initializers), nodes: [] };
  for (const node of source.nodes) {
    const copy = { ...node, outputs: [...node.outputs], attributes: new Map(node.attributes) };
    const whole = withSubgraphs(copy, (inner) => canonicalGraph(inner, from));
    graph.nodes.push(...canonicalNodes(whole, from, graph));
  }
  return graph;
}

function canonicalNodes(node: Node, from: number, graph: Graph): Node[] {
  if (node.domain !== '') return [node];
  if (node.op === 'Constant') {
    const tensor = constantTensor(node);
    if (tensor === null) return [node];
    graph.initializers.set(node.outputs[0]!, tensor);
    return [];
  }
  // Whatever mode it was exported in, a frozen LM drops nothing.
  if (node.op === 'Dropout' && (from < 12 || !node.outputs[1])) return [identity(node)];
  return lifted(node, from, graph);
}

function lifted(node: Node, from: number, graph: Graph): Node[] {
  const key = opKey(node.domain, node.op);
  const forms = (ops.get(key) ?? lowerings.get(key))?.older ?? [];
  return forms
    .filter((form) => from < form.before)
    .reduce((nodes, form) => nodes.flatMap((one) => (one.op === node.op ? form.lift(one, graph) : [one])), [node]);
}

function identity(node: Node): Node {
  const [input, output] = [node.inputs.slice(0, 1), node.outputs.slice(0, 1)];
  return { ...node, op: 'Identity', inputs: input, outputs: output, attributes: new Map() };
}

function constantTensor(node: Node): Tensor | null {
  const [entry] = node.attributes;
  const value: Attribute | undefined = entry?.[1];
  switch (value?.kind) {
    case 'tensor':
      return value.value;
    case 'int':
      return tensorOf('int64', [], [value.value]);
    case 'ints':
      return tensorOf('int64', [value.value.length], value.value);
    case 'float':
      return tensorOf('float32', [], [value.value]);
    case 'floats':
      return tensorOf('float32', [value.value.length], value.value);
    default:
      return null;
  }
}
