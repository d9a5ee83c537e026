/** Replaces calls of a model's own functions by their bodies. */
import { PtunedError } from '../errors.ts';
import { type Attribute, describeNode, type Graph, type Model, type Node, type OnnxFunction } from '../onnx/ir.ts';
import { opKey } from '../ops/op.ts';

const deepest = 32;
/** A hostile file can make functions that call each other several times grow without limit. */
const mostNodes = 200_000;

/** The model without functions. @throws PtunedError damaged_model when functions call each other in a circle */
export function inlineFunctions(model: Model): Model {
  if (model.functions.length === 0) return model;
  const functions = new Map(model.functions.map((one) => [opKey(one.domain, one.name), one]));
  const counter = { calls: 0, nodes: 0 };
  const expand = (nodes: readonly Node[], depth: number): Node[] =>
    nodes.flatMap((node): Node[] => {
      const called = functions.get(opKey(node.domain, node.op));
      if (called === undefined) return [withSubgraphs(node, (graph) => expandGraph(graph, depth))];
      if (depth >= deepest || (counter.nodes += called.nodes.length) > mostNodes) {
        throw new PtunedError('damaged_model', `${describeNode(node)}: functions call each other too deeply.`);
      }
      return expand(bodyOf(called, node, `pt/call${counter.calls++}/`), depth + 1);
    });
  const expandGraph = (graph: Graph, depth: number): Graph => ({ ...graph, nodes: expand(graph.nodes, depth) });
  return { ...model, graph: expandGraph(model.graph, 0), functions: [] };
}

function bodyOf(called: OnnxFunction, call: Node, prefix: string): Node[] {
  const names = new Map<string, string>();
  for (const [i, name] of called.inputs.entries()) names.set(name, call.inputs[i] ?? '');
  for (const [i, name] of called.outputs.entries()) {
    if (call.outputs[i] && !called.inputs.includes(name)) names.set(name, call.outputs[i]!);
  }
  const rename = (name: string) => (name === '' ? '' : (names.get(name) ?? `${prefix}${name}`));
  const value = (name: string) => call.attributes.get(name) ?? called.defaults.get(name);
  const body = called.nodes.map((node) => renameValues(withAttributes(node, value), rename));
  return [...body, ...passedThrough(called, call)].map((node) => ({ ...node, name: `${call.name}/${node.name}` }));
}

/** An output that is an input of the function has no node that yields it. */
function passedThrough(called: OnnxFunction, call: Node): Node[] {
  return called.outputs.flatMap((name, i): Node[] => {
    const input = called.inputs.indexOf(name);
    const output = call.outputs[i] ?? '';
    if (input < 0 || output === '') return [];
    return [
      { op: 'Identity', domain: '', name, inputs: [call.inputs[input]!], outputs: [output], attributes: new Map() },
    ];
  });
}

/** Attributes that refer to those of the call take their values; a reference to one left out is left out. */
function withAttributes(node: Node, value: (name: string) => Attribute | undefined): Node {
  const attributes = new Map<string, Attribute>();
  for (const [name, attribute] of node.attributes) {
    const found = attribute.kind === 'reference' ? value(attribute.value) : attribute;
    if (found === undefined) continue;
    attributes.set(
      name,
      found.kind !== 'graph' ? found : { kind: 'graph', value: graphWithAttributes(found.value, value) },
    );
  }
  return { ...node, attributes };
}

function graphWithAttributes(graph: Graph, value: (name: string) => Attribute | undefined): Graph {
  return { ...graph, nodes: graph.nodes.map((node) => withAttributes(node, value)) };
}

/** A node with all its values renamed, those of its subgraphs included. */
export function renameValues(node: Node, rename: (name: string) => string): Node {
  return withSubgraphs(
    { ...node, inputs: node.inputs.map(rename), outputs: node.outputs.map(rename) },
    (graph): Graph => ({
      ...graph,
      inputs: graph.inputs.map((one) => ({ ...one, name: rename(one.name) })),
      outputs: graph.outputs.map((one) => ({ ...one, name: rename(one.name) })),
      initializers: new Map([...graph.initializers].map(([name, tensor]) => [rename(name), tensor])),
      nodes: graph.nodes.map((inner) => renameValues(inner, rename)),
    }),
  );
}

/** A node with its subgraphs mapped. */
export function withSubgraphs(node: Node, map: (graph: Graph) => Graph): Node {
  if (![...node.attributes.values()].some((attribute) => attribute.kind === 'graph')) return node;
  const attributes = [...node.attributes].map(([name, attribute]): [string, Attribute] => [
    name,
    attribute.kind === 'graph' ? { kind: 'graph', value: map(attribute.value) } : attribute,
  ]);
  return { ...node, attributes: new Map(attributes) };
}
