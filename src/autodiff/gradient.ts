/**
 * Reverse-mode automatic differentiation from graph to graph. The rules in src/ops say what one node contributes; this
 * engine alone walks, reduces to operand shapes, adds up, and stops off the path.
 */
import { PtunedError } from '../errors.ts';
import type { GraphBuilder } from '../onnx/builder.ts';
import { isFloat } from '../onnx/dtype.ts';
import { describeNode, intAttribute, type Node } from '../onnx/ir.ts';
import { opKey, type Vjp, type VjpContext } from '../ops/op.ts';
import { zerosOf } from '../ops/places.ts';
import { ops, whyMissing } from '../ops/registry.ts';
import { readersOf, valuesRead } from './prune.ts';
import { unbroadcast } from './unbroadcast.ts';

export interface GradientRequest {
  /** Gradients that come in from outside: value name to the name of its gradient. */
  seeds: ReadonlyMap<string, string>;
  /** Values whose gradients are wanted. */
  wrt: readonly string[];
  /** Rules of single nodes, by name, where more is known of them than their op says. */
  rules?: ReadonlyMap<string, Vjp>;
}

/**
 * Appends nodes that compute the gradients of the `wrt` values and returns their names.
 * @throws PtunedError unsupported_op naming op and node when the path crosses an op without a rule; import_refused for a
 *   value that no gradient reaches
 */
export function appendGradient(builder: GraphBuilder, request: GradientRequest): Map<string, string> {
  const gradients = appendReachingGradients(builder, request);
  const missing = request.wrt.find((value) => !gradients.has(value));
  if (missing === undefined) return gradients;
  throw new PtunedError('import_refused', `No gradient reaches "${missing}": the output does not depend on it.`);
}

/**
 * {@link appendGradient} for the values that a gradient reaches; that of the others is zero.
 * Everything a rule offers is emitted; what no one reads is removed by the prune pass.
 */
export function appendReachingGradients(builder: GraphBuilder, request: GradientRequest): Map<string, string> {
  const forward = [...builder.graph.nodes];
  const path = valuesOnPath(builder, forward, request.wrt);
  const contributions = new Map<string, string[]>();
  for (const [value, gradient] of request.seeds) contributions.set(value, [gradient]);
  const readers = readersOf(forward);
  const producerOf = producersIn(builder);
  const gradientOf = (value: string): string | null => combine(builder, contributions, value, producerOf);

  for (const node of forward.reverse()) {
    const active = node.outputs.some((name) => path.has(name) && contributions.has(name));
    if (!active) continue;
    const rule = request.rules?.get(node.name) ?? ruleOf(node);
    const context = vjpContext(builder, node, gradientOf, readers);
    for (const [i, gradient] of rule(context).entries()) {
      const value = node.inputs[i];
      if (gradient === null || value === undefined || !path.has(value)) continue;
      const list = contributions.get(value) ?? [];
      list.push(unbroadcast(builder, gradient, value));
      contributions.set(value, list);
    }
  }
  return new Map(
    request.wrt.flatMap((value): [string, string][] => {
      const gradient = gradientOf(value);
      return gradient === null ? [] : [[value, gradient]];
    }),
  );
}

/** Values that depend on `wrt` through ops that can pass a gradient on. */
export function valuesOnPath(builder: GraphBuilder, nodes: readonly Node[], wrt: readonly string[]): Set<string> {
  const path = new Set(wrt);
  for (const node of nodes) {
    if (![...valuesRead(node)].some((name) => path.has(name))) continue;
    const op = ops.get(opKey(node.domain, node.op));
    if (op !== undefined && 'none' in op.vjp) continue;
    // Rounded values have a gradient too, and keep it where they are moved.
    const rounded = op?.straightThrough === true || readsRounded(builder, node, path);
    for (const name of node.outputs) if (name !== '' && (rounded || isFloat(builder.type(name).dtype))) path.add(name);
  }
  return path;
}

function readsRounded(builder: GraphBuilder, node: Node, path: ReadonlySet<string>): boolean {
  return node.inputs.some((name) => path.has(name) && !isFloat(builder.type(name).dtype));
}

function ruleOf(node: Node): Vjp {
  const vjp = ops.get(opKey(node.domain, node.op))?.vjp;
  if (typeof vjp === 'function') return vjp;
  throw new PtunedError('unsupported_op', `${describeNode(node)} has no gradient rule${whyMissing(node)}.`, {
    details: { op: node.op, domain: node.domain, node: node.name },
  });
}

function vjpContext(
  builder: GraphBuilder,
  node: Node,
  gradientOf: (value: string) => string | null,
  readers: ReadonlyMap<string, Node[]>,
): VjpContext {
  return {
    node,
    builder,
    input: (i) => node.inputs[i]!,
    output(i) {
      // Optional outputs (LayerNormalization's mean and deviation) come into being when a rule asks for them.
      while (node.outputs.length <= i) node.outputs.push('');
      if (node.outputs[i] === '') {
        node.outputs[i] = builder.fresh(`${node.op}_output${i}`);
        builder.infer(node);
      }
      return node.outputs[i]!;
    },
    gradient(i) {
      const value = node.outputs[i]!;
      return gradientOf(value) ?? zerosOf(builder, value);
    },
    hasGradient: (i) => gradientOf(node.outputs[i]!) !== null,
    consumers: (value) => readers.get(value) ?? [],
  };
}

/** Sum of a value's contributions; computed once and kept as the only contribution. */
function combine(
  builder: GraphBuilder,
  contributions: Map<string, string[]>,
  value: string,
  producerOf: Producers,
): string | null {
  const list = contributions.get(value);
  if (list === undefined) return null;
  if (list.length === 1) return list[0]!;
  const total = sumOfProducts(builder, list, producerOf) ?? list.reduce((sum, one) => builder.op('Add', [sum, one]));
  contributions.set(value, [total]);
  return total;
}

/**
 * Σ AᵢᵀBᵢ as one product of the stacked rows. A weight used at every step of an unrolled recurrence collects one
 * outer product a step; adding them up one by one would read and write the whole weight gradient each time.
 */
function sumOfProducts(builder: GraphBuilder, list: readonly string[], producerOf: Producers): string | null {
  const nodes = [...new Set(list)].map(producerOf);
  if (!nodes.every((node) => node !== null && isRowProduct(builder, node))) return null;
  const stack = (i: number) =>
    builder.op(
      'Concat',
      (nodes as Node[]).map((node) => node.inputs[i]!),
      { axis: 0 },
    );
  return rowProduct(builder, stack(0), stack(1));
}

/** leftᵀ·right of two matrices, without a transposed copy. */
export function rowProduct(builder: GraphBuilder, left: string, right: string): string {
  const attributes = { transA: 1, transB: 0, alpha: { float: 1 } };
  return builder.op('FusedMatMul', [left, right], attributes, { domain: 'com.microsoft' });
}

/** The node whose first output a value is; null for inputs and initializers. */
type Producers = (value: string) => Node | null;

/** Looks only at nodes that were appended since it was last asked: over a whole gradient each is looked at once. */
function producersIn({ graph }: GraphBuilder): Producers {
  const found = new Map<string, Node>();
  let seen = 0;
  return (value) => {
    for (; seen < graph.nodes.length; seen++) found.set(graph.nodes[seen]!.outputs[0]!, graph.nodes[seen]!);
    return found.get(value) ?? null;
  };
}

/** Whether a node is AᵀB of two matrices: a sum of outer products of their rows. */
export function isRowProduct(builder: GraphBuilder, node: Node): boolean {
  const alpha = node.attributes.get('alpha');
  return (
    node.op === 'FusedMatMul' &&
    intAttribute(node, 'transA', 0) === 1 &&
    intAttribute(node, 'transB', 0) === 0 &&
    (alpha === undefined || (alpha.kind === 'float' && alpha.value === 1)) &&
    node.inputs.every((name) => builder.type(name).shape?.length === 2)
  );
}
