/**
 * Operations and bytes of an LM's training step, counted in the program's own graph with its dimensions bound: what the
 * machine must do at least, whatever the runtime makes of the graph.
 */

import { programBuilder } from '../../src/lm/known-shapes.ts';
import { bytesOf, views } from '../../src/lm/memory.ts';
import type { Program } from '../../src/lm/programs.ts';
import type { GraphBuilder } from '../../src/onnx/builder.ts';
import { evaluateDim } from '../../src/onnx/dim.ts';
import { byteSize } from '../../src/onnx/dtype.ts';
import { elementCount, intAttribute, type Node, stringAttribute } from '../../src/onnx/ir.ts';

export interface StepCost {
  /** Floating-point operations of products: two for each multiply-add. Elementwise work is not counted. */
  forward: number;
  backward: number;
  /** Bytes of weights that products read; a weight that is read in both directions counts twice. */
  weightBytes: number;
  /** Bytes of forward values that the backward part needs, written once and read once. */
  keptBytes: number;
  /** Nodes whose size depends on the run; not counted. */
  unknown: number;
}

type Bindings = ReadonlyMap<string, number>;

/** Costs of a program whose first output is the loss and whose others are gradients. */
export function costOf(program: Program, bindings: Bindings): StepCost {
  const { graph } = program.model;
  const builder = programBuilder(graph);
  const forward = nodesOf(builder, program.outputs[0]!);
  const cost: StepCost = { forward: 0, backward: 0, weightBytes: 0, keptBytes: 0, unknown: 0 };
  const constants = constantsOf(builder);
  for (const node of builder.graph.nodes) {
    // What only constants go into is computed once, when the session opens.
    if (constants.has(node.outputs[0]!)) continue;
    const operations = operationsOf(builder, node, bindings);
    if (operations === null) cost.unknown++;
    else if (forward.has(node)) cost.forward += operations;
    else cost.backward += operations;
    if (operations === 0 || operations === null) continue;
    for (const name of node.inputs) if (constants.has(name)) cost.weightBytes += bytesOf(builder, name, bindings) ?? 0;
  }
  cost.keptBytes = 2 * keptBytes(builder, forward, constants, bindings);
  return cost;
}

/** The nodes that a value depends on. */
function nodesOf(builder: GraphBuilder, value: string): Set<Node> {
  const needed = new Set([value]);
  const nodes = new Set<Node>();
  for (const node of [...builder.graph.nodes].reverse()) {
    if (!node.outputs.some((name) => needed.has(name))) continue;
    nodes.add(node);
    for (const name of node.inputs) needed.add(name);
  }
  return nodes;
}

function constantsOf(builder: GraphBuilder): Set<string> {
  const constants = new Set(builder.graph.initializers.keys());
  for (const node of builder.graph.nodes) {
    if (node.inputs.some((name) => name !== '' && !constants.has(name))) continue;
    if (node.inputs.length > 0) for (const name of node.outputs) constants.add(name);
  }
  return constants;
}

/** 0 for ops that are no products, null where a size is not known before the run. */
function operationsOf(builder: GraphBuilder, node: Node, bindings: Bindings): number | null {
  const inner = innerSize(builder, node, bindings);
  if (inner === 0) return 0;
  const result = sizeOf(builder, node.op === 'ConvTranspose' ? node.inputs[0]! : node.outputs[0]!, bindings);
  return inner === null || result === null ? null : 2 * inner * result;
}

/** Multiply-adds for each element of the result; 0 for ops that are no products. */
function innerSize(builder: GraphBuilder, node: Node, bindings: Bindings): number | null {
  const dim = (input: number, axis: number) => {
    const at = builder.type(node.inputs[input]!).shape?.at(axis);
    return at === undefined ? null : evaluateDim(at, bindings);
  };
  switch (node.op) {
    case 'MatMul':
    case 'MatMulInteger':
      return dim(0, -1);
    case 'FusedMatMul':
    case 'Gemm':
      return dim(0, intAttribute(node, 'transA', 0) === 1 ? -2 : -1);
    case 'MatMulNBits':
      return intAttribute(node, 'K', 0);
    case 'Conv':
    case 'ConvTranspose': {
      const kernel = builder.type(node.inputs[1]!).shape?.slice(1) ?? [null];
      return kernel.reduce<number | null>((product, one) => {
        const size = one === null ? null : evaluateDim(one, bindings);
        return product === null || size === null ? null : product * size;
      }, 1);
    }
    case 'Einsum':
      return contracted(builder, node, bindings);
    default:
      return 0;
  }
}

/** Sizes of the labels that an Einsum sums over, multiplied; equations with "..." contract named labels only. */
function contracted(builder: GraphBuilder, node: Node, bindings: Bindings): number | null {
  const [left = '', right = ''] = stringAttribute(node, 'equation', '').replaceAll(' ', '').split('->');
  const terms = left.split(',');
  if (terms.length < 2) return 0;
  let product: number | null = 1;
  for (const label of new Set(terms.join('').replaceAll('.', ''))) {
    if (right.includes(label)) continue;
    const operand = terms.findIndex((term) => term.includes(label));
    const term = terms[operand]!;
    const axis =
      term.indexOf(label) - (term.indexOf('.') >= 0 && term.indexOf('.') < term.indexOf(label) ? term.length : 0);
    const at = builder.type(node.inputs[operand]!).shape?.at(axis);
    const size = at === undefined ? null : evaluateDim(at, bindings);
    product = product === null || size === null ? null : product * size;
  }
  return product;
}

function sizeOf(builder: GraphBuilder, name: string, bindings: Bindings): number | null {
  const dims = builder.type(name).shape?.map((dim) => evaluateDim(dim, bindings)) ?? [null];
  return dims.every((dim) => dim !== null) ? elementCount(dims) : null;
}

/** Bytes of values made on the way forward that a node of the way back reads; a view counts as what it shows. */
function keptBytes(
  builder: GraphBuilder,
  forward: ReadonlySet<Node>,
  constants: ReadonlySet<string>,
  bindings: Bindings,
): number {
  const source = new Map<string, string>();
  const owner = (name: string): string => source.get(name) ?? name;
  const made = new Set<string>();
  const kept = new Set<string>();
  for (const node of builder.graph.nodes) {
    if (views.has(node.op)) source.set(node.outputs[0]!, owner(node.inputs[0]!));
    if (forward.has(node)) for (const name of node.outputs) made.add(owner(name));
    // Shape reads no elements.
    else if (node.op !== 'Shape') for (const name of node.inputs) if (made.has(owner(name))) kept.add(owner(name));
  }
  let bytes = 0;
  for (const name of kept) if (name !== '' && !constants.has(name)) bytes += bytesOf(builder, name, bindings) ?? 0;
  return bytes;
}

/** Bytes that Adam and the encoder's products move for so many parameters, all float32. */
export function encoderBytes(parameters: number): number {
  // Forward and backward products read the parameters; the backward one writes gradients; Adam reads parameter, gradient
  // and both moments and writes all but the gradient.
  const passes = 2 + 1 + 4 + 3;
  return passes * byteSize('float32', parameters);
}
