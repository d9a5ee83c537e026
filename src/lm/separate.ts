/** Queries, keys and values of one product, taken apart so that each can be computed for other tokens. */
import type { GraphBuilder } from '../onnx/builder.ts';
import type { Dim } from '../onnx/dim.ts';
import { attributesOf, intAttribute, type Node } from '../onnx/ir.ts';
import { idsRead } from './feeds.ts';
import { isWeightProduct, layoutOf, type Tokens, trailing } from './position-wise.ts';

/**
 * Replaces Split(reshape(x·W + b)) along the last axis by a product for each part, with the columns of the weight that are
 * its own. They are slices of constants, which the runtime computes when a session opens. False where the graph has
 * something else.
 */
export function separateProducts(builder: GraphBuilder, split: Node, tokens: Tokens): boolean {
  const way = wayToProduct(builder, split, tokens);
  const sizes = split.outputs.map((name) => builder.types.get(name)?.shape?.at(-1));
  if (way === null || !sizes.every((size) => typeof size === 'number')) return false;
  const { graph } = builder;
  const at = graph.nodes.indexOf(split);
  const behind = graph.nodes.splice(at).slice(1);
  let start = 0;
  for (const [i, size] of sizes.entries()) {
    appendPart(builder, way, split.outputs[i]!, [start, start + size], tokens);
    start += size;
  }
  graph.nodes.push(...behind);
  return true;
}

/** Nodes from the product to the split, each read by the next alone; null where others are among them. */
function wayToProduct(builder: GraphBuilder, split: Node, tokens: Tokens): Node[] | null {
  const rank = builder.types.get(split.inputs[0]!)?.shape?.length ?? 0;
  const axis = intAttribute(split, 'axis', 0);
  if (axis !== -1 && axis !== rank - 1) return null;
  const width = builder.shape(split.inputs[0]!)[rank - 1]!;
  const way: Node[] = [];
  let value = split.inputs[0]!;
  for (;;) {
    const node = builder.graph.nodes.find((one) => one.outputs.includes(value));
    const readers = builder.graph.nodes.filter((one) => one.inputs.includes(value));
    if (node === undefined || readers.length !== 1 || !keepsColumns(builder, node, width, tokens)) return null;
    way.unshift(node);
    if (isWeightProduct(builder, node)) return way;
    value = node.inputs[activation(builder, node)]!;
  }
}

/** Whether column i of the output is computed from column i of the operands, or of the weight. */
function keepsColumns(builder: GraphBuilder, node: Node, width: Dim, tokens: Tokens): boolean {
  const isVector = (name: string) => builder.types.get(name)?.shape?.length === 1 && builder.shape(name)[0] === width;
  if (node.op === 'Reshape') {
    const [from, to] = [node.inputs[0]!, node.outputs[0]!].map((name) => layoutOf(builder, name, tokens));
    return from !== null && to !== null && trailing(builder, node.outputs[0]!, to!).length === 1;
  }
  if (node.op === 'Add') return node.inputs.filter(isVector).length === 1;
  if (node.op !== 'MatMul' && node.op !== 'Gemm') return false;
  return node.inputs.length < 3 || isVector(node.inputs[2]!);
}

/** Which input of a node on the way carries the tokens. */
function activation(builder: GraphBuilder, node: Node): number {
  return node.op === 'Add' && builder.shape(node.inputs[0]!).length === 1 ? 1 : 0;
}

/** The way again for columns [start, end), ending in the value `name`. */
function appendPart(
  builder: GraphBuilder,
  way: readonly Node[],
  name: string,
  columns: [number, number],
  tokens: Tokens,
) {
  let value = way[0]!.inputs[0]!;
  for (const [i, node] of way.entries()) {
    const output = i === way.length - 1 ? name : builder.fresh('part');
    const own = activation(builder, node);
    const inputs = node.inputs.map((input, k) => {
      if (k === own) return value;
      if (node.op === 'Reshape') return partShape(builder, node, columns, tokens);
      const axis = node.op === 'Gemm' && k === 1 && intAttribute(node, 'transB', 0) === 1 ? 0 : -1;
      return sliced(builder, input, columns, axis);
    });
    const attributes = node.op === 'Reshape' ? attributesOf({}) : new Map(node.attributes);
    builder.append({ ...node, name: output, inputs, outputs: [output], attributes });
    value = output;
  }
}

function sliced(builder: GraphBuilder, value: string, [start, end]: [number, number], axis: number): string {
  const lists = [start, end, axis].map((one) => builder.constant('int64', [one]));
  return builder.op('Slice', [value, ...lists]);
}

function partShape(builder: GraphBuilder, node: Node, [start, end]: [number, number], tokens: Tokens): string {
  const size = builder.constant('int64', [end - start]);
  if (layoutOf(builder, node.outputs[0]!, tokens) === 'flat') return builder.constant('int64', [-1, end - start]);
  return builder.op('Concat', [builder.op('Shape', [idsRead(builder)], { start: 0, end: 2 }), size], { axis: 0 });
}
