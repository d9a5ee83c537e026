/** An LM's weights counted, however few bits they are stored in. */
import { byteSize, isFloat } from '../onnx/dtype.ts';
import { elementCount, type Graph, intAttribute, type Node, type Tensor } from '../onnx/ir.ts';

export interface Weights {
  parameters: number;
  /** Bytes in the model's files, scales and zero points included. */
  bytes: number;
  /** Parameters by how they are stored: float32, float16, int8, "4 bits" … */
  precision: Record<string, number>;
}

/** Of ops on quantized weights: the input that holds them; scales and zero points are the next two, or where said. */
const places: Record<string, { weight: number; scale: number }> = {
  DequantizeLinear: { weight: 0, scale: 1 },
  MatMulInteger: { weight: 1, scale: 2 },
  MatMulNBits: { weight: 1, scale: 2 },
  GatherBlockQuantized: { weight: 0, scale: 2 },
};

export function weightsOf(graph: Graph): Weights {
  const scales = new Set<string>();
  /** Quantized weights, with the bits of an element where it is packed into bytes. */
  const quantized = new Map<string, number | null>();
  const producers = new Map(graph.nodes.flatMap((node) => node.outputs.map((name): [string, Node] => [name, node])));
  for (const node of graph.nodes) {
    const place = places[node.op];
    if (place === undefined) continue;
    for (const name of node.inputs.slice(place.scale, place.scale + 2)) scales.add(name);
    const packed = node.domain === '' ? null : intAttribute(node, 'bits', 4);
    quantized.set(origin(producers, node.inputs[place.weight]!), packed);
  }
  const weights: Weights = { parameters: 0, bytes: 0, precision: {} };
  const counted = new Set<Tensor['data']>();
  for (const [name, tensor] of graph.initializers) {
    if (!isFloat(tensor.dtype) && !quantized.has(name) && !scales.has(name)) continue;
    // The same bytes may have two shapes.
    if (counted.has(tensor.data)) continue;
    counted.add(tensor.data);
    weights.bytes += byteSize(tensor.dtype, elementCount(tensor.dims));
    if (scales.has(name)) continue;
    const [count, stored] = elements(tensor, quantized.get(name) ?? null);
    weights.parameters += count;
    weights.precision[stored] = (weights.precision[stored] ?? 0) + count;
  }
  return weights;
}

/** What a value was before ops that only move or pick elements. */
function origin(producers: ReadonlyMap<string, Node>, value: string): string {
  const node = producers.get(value);
  const moves = node !== undefined && ['Gather', 'Transpose', 'Reshape', 'Identity'].includes(node.op);
  return moves ? origin(producers, node.inputs[0]!) : value;
}

/** Elements of a tensor whose bytes may hold several each, and how they are stored. */
function elements({ dtype, dims }: Tensor, bits: number | null): [number, string] {
  const count = elementCount(dims);
  if (bits === null || dtype !== 'uint8') return [count, dtype];
  return [(count * 8) / bits, `${bits} bits`];
}
