/**
 * Lifts a graph to one opset, so that every later pass and every gradient rule knows one form of each op: axes as
 * inputs (Squeeze, Unsqueeze, ReduceSum since 13, other reductions since 18), split sizes as an input or num_outputs
 * (13, 18), softmax over one axis (13), constants as initializers.
 */
import { PtunedError } from '../errors.ts';
import {
  type Attribute,
  attributesOf,
  type Graph,
  intAttribute,
  intsAttribute,
  type Model,
  type Node,
  type Tensor,
} from '../onnx/ir.ts';
import { tensorOf } from '../onnx/types.ts';

/** Lowest opset of a canonical graph; newer graphs keep theirs. */
export const canonicalOpset = 21;
const oldest = 11;

const reductions = new Set([
  'ReduceMean',
  'ReduceMax',
  'ReduceMin',
  'ReduceProd',
  'ReduceL1',
  'ReduceL2',
  'ReduceSumSquare',
  'ReduceLogSum',
  'ReduceLogSumExp',
]);

/** A model in canonical form; the given one is left as it is. @throws PtunedError import_refused below opset 11 */
export function canonicalize(model: Model): Model {
  const from = model.opsets.get('') ?? oldest;
  if (from < oldest) {
    throw new PtunedError(
      'import_refused',
      `The graph has opset ${from}; opsets from ${oldest} on are accepted. Export the LM again.`,
    );
  }
  const graph: Graph = { ...model.graph, initializers: new Map(model.graph.initializers), nodes: [] };
  for (const node of model.graph.nodes) {
    for (const one of canonicalNodes(
      { ...node, outputs: [...node.outputs], attributes: new Map(node.attributes) },
      from,
      graph,
    )) {
      graph.nodes.push(one);
    }
  }
  const opsets = new Map(model.opsets);
  opsets.set('', Math.max(from, canonicalOpset));
  opsets.set('com.microsoft', 1);
  return { ...model, opsets, graph };
}

function canonicalNodes(node: Node, from: number, graph: Graph): Node[] {
  if (node.domain !== '') return [node];
  if (node.op === 'Constant') {
    const tensor = constantTensor(node);
    if (tensor === null) return [node];
    graph.initializers.set(node.outputs[0]!, tensor);
    return [];
  }
  if (from < 13 && (node.op === 'Squeeze' || node.op === 'Unsqueeze' || node.op === 'ReduceSum'))
    axesToInput(node, graph);
  if (from < 18 && reductions.has(node.op)) axesToInput(node, graph);
  if (node.op === 'Split') canonicalSplit(node, from, graph);
  // Whatever mode it was exported in, a frozen LM drops nothing.
  if (node.op === 'Dropout' && (from < 12 || !node.outputs[1]))
    return [
      {
        ...node,
        op: 'Identity',
        inputs: node.inputs.slice(0, 1),
        outputs: node.outputs.slice(0, 1),
        attributes: new Map(),
      },
    ];
  if (from < 13 && (node.op === 'Softmax' || node.op === 'LogSoftmax')) return oldSoftmax(node);
  return [node];
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

function int64Input(node: Node, graph: Graph, hint: string, values: number[]): string {
  const name = `pt/${hint}/${node.outputs[0]}`;
  graph.initializers.set(name, tensorOf('int64', [values.length], values));
  return name;
}

function axesToInput(node: Node, graph: Graph): void {
  const axes = intsAttribute(node, 'axes');
  node.attributes.delete('axes');
  if (axes !== null) node.inputs = [node.inputs[0]!, int64Input(node, graph, 'axes', axes)];
}

function canonicalSplit(node: Node, from: number, graph: Graph): void {
  const sizes = from < 13 ? intsAttribute(node, 'split') : null;
  node.attributes.delete('split');
  if (sizes !== null) node.inputs = [node.inputs[0]!, int64Input(node, graph, 'split', sizes)];
  const given = (node.inputs[1] ?? '') !== '';
  if (!given && from < 18) node.attributes.set('num_outputs', { kind: 'int', value: node.outputs.length });
}

/** Below opset 13 softmax runs over all axes from `axis` on; the last axis alone is by far the usual case. */
function oldSoftmax(node: Node): Node[] {
  const axis = intAttribute(node, 'axis', 1);
  if (axis === -1) return [node];
  const [input, output] = [node.inputs[0]!, node.outputs[0]!];
  const part = (op: string, name: string, inputs: string[], attributes = {}): Node => ({
    op,
    domain: '',
    name: `${node.name}/${name}`,
    inputs,
    outputs: [name === 'result' ? output : `pt/${name}/${output}`],
    attributes: attributesOf(attributes),
  });
  const flat = part('Flatten', 'flat', [input], { axis });
  const soft = part(node.op, 'soft', [flat.outputs[0]!], { axis: -1 });
  const shape = part('Shape', 'shape', [input]);
  return [flat, soft, shape, part('Reshape', 'result', [soft.outputs[0]!, shape.outputs[0]!])];
}
