/**
 * Half precision to float32: what a CPU computes with. Weights stay as they are in their files; a Cast behind each is
 * folded by the runtime when a session opens.
 */

import { type DType, dtypeCode } from '../onnx/dtype.ts';
import {
  type Attribute,
  attributesOf,
  elementCount,
  type Graph,
  isExternal,
  type Model,
  type Node,
  type Tensor,
} from '../onnx/ir.ts';
import { maxKnown, numbersOf, tensorOf } from '../onnx/types.ts';
import { renameValues, withSubgraphs } from './inline.ts';

const float32 = dtypeCode('float32');
const halves = new Set([dtypeCode('float16'), dtypeCode('bfloat16')]);

function isHalf(dtype: DType): boolean {
  return dtype === 'float16' || dtype === 'bfloat16';
}

/** The model with float32 in place of float16 and bfloat16. Needs canonical form: constants are initializers. */
export function widenHalves(model: Model): Model {
  const graph = widenGraph(model.graph);
  return graph === model.graph ? model : { ...model, graph };
}

function widenGraph(graph: Graph): Graph {
  const casts = new Map<string, string>();
  const initializers = new Map<string, Tensor>();
  for (const [name, tensor] of graph.initializers) {
    const small = isHalf(tensor.dtype) && !isExternal(tensor.data) && elementCount(tensor.dims) <= maxKnown;
    initializers.set(name, small ? widenTensor(tensor) : tensor);
    if (isHalf(tensor.dtype) && !small) casts.set(name, `pt/float32/${name}`);
  }
  const nodes: Node[] = [];
  const used = new Set<string>();
  const rename = (name: string) => {
    const wide = casts.get(name);
    if (wide === undefined) return name;
    if (!used.has(name)) nodes.push(castNode(name, wide));
    used.add(name);
    return wide;
  };
  for (const node of graph.nodes) nodes.push(...widenNode(node, casts, rename));
  const widenValue = (one: Graph['inputs'][number]) =>
    isHalf(one.dtype) ? { ...one, dtype: 'float32' as const } : one;
  return {
    ...graph,
    initializers,
    nodes,
    inputs: graph.inputs.map(widenValue),
    outputs: graph.outputs.map((one) => ({ ...widenValue(one), name: rename(one.name) })),
  };
}

function castNode(from: string, to: string): Node {
  return {
    op: 'Cast',
    domain: '',
    name: `pt/cast/${to}`,
    inputs: [from],
    outputs: [to],
    attributes: attributesOf({ to: float32 }),
  };
}

function widenNode(node: Node, casts: ReadonlyMap<string, string>, rename: (name: string) => string): Node[] {
  const table = node.inputs[0] ?? '';
  if (node.op === 'Gather' && casts.has(table)) {
    // Only the rows looked up are converted, not the whole embedding table.
    const half = `pt/half/${node.outputs[0]}`;
    return [{ ...node, outputs: [half] }, castNode(half, node.outputs[0]!)];
  }
  const widened = withSubgraphs(renameValues(node, rename), widenGraph);
  const attributes = [...widened.attributes].map(([name, one]): [string, Attribute] => [
    name,
    widenAttribute(name, one),
  ]);
  return [{ ...widened, attributes: new Map(attributes) }];
}

/** Element types that ops are told: Cast's `to`, `dtype`, `output_dtype`; and constant tensors. */
function widenAttribute(name: string, attribute: Attribute): Attribute {
  const isType = name === 'to' || name === 'dtype' || name === 'output_dtype';
  if (attribute.kind === 'int' && isType && halves.has(attribute.value)) return { kind: 'int', value: float32 };
  if (attribute.kind === 'tensor' && isHalf(attribute.value.dtype))
    return { kind: 'tensor', value: widenTensor(attribute.value) };
  return attribute;
}

function widenTensor(tensor: Tensor): Tensor {
  const numbers = numbersOf(tensor);
  return numbers === null ? tensor : tensorOf('float32', tensor.dims, numbers);
}
