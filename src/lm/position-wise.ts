/** Ops that treat every token alike, without mixing positions: they can be repeated for a choice of tokens. */
import type { GraphBuilder } from '../onnx/builder.ts';
import { type Dim, multiplyDims, sameDim } from '../onnx/dim.ts';
import { attributesOf, intAttribute, intsAttribute, type Node } from '../onnx/ir.ts';
import { batch, feeds } from './feeds.ts';

/** The tokens that values carry: as two axes (nested), or as one of their product (flat). */
export interface Tokens {
  nested: readonly [Dim, Dim];
  flat: Dim;
}

export function tokensOf(first: Dim, second: Dim): Tokens {
  return { nested: [first, second], flat: multiplyDims(first, second) };
}

export type Layout = 'nested' | 'flat';

/** Axes that carry tokens. */
function leadingAxes(layout: Layout): number {
  return layout === 'nested' ? 2 : 1;
}

export const elementwise: ReadonlySet<string> = new Set([
  ...['Add', 'Sub', 'Mul', 'Div', 'Pow', 'Min', 'Max', 'Sum', 'Mean', 'Where', 'Clip', 'Equal', 'Greater', 'Less'],
  ...['Identity', 'Neg', 'Abs', 'Exp', 'Log', 'Sqrt', 'Reciprocal', 'Erf', 'Tanh', 'Sigmoid', 'Softplus', 'Relu'],
  ...['LeakyRelu', 'Elu', 'Selu', 'Celu', 'PRelu', 'HardSigmoid', 'HardSwish', 'Softsign', 'Mish', 'Gelu', 'FastGelu'],
  ...['QuickGelu', 'BiasGelu', 'Cast', 'Sin', 'Cos', 'IsNaN', 'Not', 'And', 'Or', 'Dropout'],
]);
const weightProducts = new Set(['MatMul', 'FusedMatMul', 'Gemm']);
export const reductions: ReadonlySet<string> = new Set([
  'ReduceMean',
  'ReduceSum',
  'ReduceMax',
  'ReduceMin',
  'ReduceL2',
  'ReduceSumSquare',
]);

/** How a value carries the tokens; null where it does not, or is not known to. */
export function layoutOf(builder: GraphBuilder, value: string, tokens: Tokens): Layout | null {
  const shape = builder.types.get(value)?.shape ?? null;
  if (shape === null || shape.length < 2) return null;
  const { nested, flat } = tokens;
  if (sameDim(shape[0]!, nested[0]) && sameDim(shape[1]!, nested[1])) return 'nested';
  return sameDim(shape[0]!, flat) ? 'flat' : null;
}

/** Whether a value [1, sequence, …] holds what every row has at a position: embeddings of positions, above all. */
export function spansRows(builder: GraphBuilder, value: string, { nested }: Tokens): boolean {
  const shape = builder.types.get(value)?.shape ?? null;
  if (shape === null || shape.length < 3 || !sameDim(nested[0], batch)) return false;
  return shape[0] === 1 && sameDim(shape[1]!, nested[1]);
}

/** `value` itself, or, where it is the same for all rows, as one that carries the tokens. */
export function carrying(builder: GraphBuilder, value: string, tokens: Tokens): string {
  if (!spansRows(builder, value, tokens)) return value;
  const rows = builder.op('Shape', [feeds.ids], { start: 0, end: 1 });
  const ones = builder.constant(
    'int64',
    builder
      .shape(value)
      .slice(1)
      .map(() => 1),
  );
  return builder.op('Expand', [value, builder.op('Concat', [rows, ones], { axis: 0 })]);
}

/** Axes of a value behind those that carry tokens. */
export function trailing(builder: GraphBuilder, value: string, layout: Layout): Dim[] {
  return builder.shape(value).slice(leadingAxes(layout));
}

/** Whether every token of the node's outputs depends on that token of its inputs alone. */
export function isPositionWise(builder: GraphBuilder, node: Node, tokens: Tokens): boolean {
  const layouts = node.outputs.map((name) => (name === '' ? null : layoutOf(builder, name, tokens)));
  const layout = layouts[0];
  if (layout === null || layout === undefined || layouts.some((one) => one !== layout)) return false;
  const leading = leadingAxes(layout);
  const first = node.inputs[0]!;
  const rank = builder.shape(node.outputs[0]!).length;
  const carries = (name: string) => layoutOf(builder, name, tokens) === layout;
  const free = (name: string) => name === '' || doesNotCarry(builder, name, rank, leading);
  const axis = (fallback: number) => {
    const given = intAttribute(node, 'axis', fallback);
    return given < 0 ? given + rank : given;
  };
  const aligned = (name: string) =>
    builder.shape(name).length === rank && (carries(name) || spansRows(builder, name, tokens));
  if (elementwise.has(node.op)) return node.inputs.every((name) => free(name) || aligned(name));
  if (reductions.has(node.op)) {
    const axes = (builder.types.get(node.inputs[1] ?? '')?.value ?? []) as number[];
    const inside = axes.length > 0 && axes.every((one) => (one < 0 ? one + rank : one) >= leading);
    return carries(first) && inside && intAttribute(node, 'keepdims', 1) === 1;
  }
  switch (node.op) {
    case 'MatMul':
    case 'FusedMatMul':
    case 'MatMulNBits':
      return carries(first) && rank > leading && isWeightProduct(builder, node);
    case 'Gemm':
      return carries(first) && isWeightProduct(builder, node) && free(node.inputs[2] ?? '');
    case 'LayerNormalization':
    case 'SimplifiedLayerNormalization':
    case 'Softmax':
    case 'LogSoftmax':
      return carries(first) && axis(-1) >= leading;
    case 'Split':
      return axis(0) >= leading && carries(first);
    case 'Concat':
      return axis(0) >= leading && node.inputs.every(carries);
    case 'Transpose':
      return (
        carries(first) &&
        (intsAttribute(node, 'perm') ?? []).slice(0, leading).every((from, to) => from === to) &&
        node.attributes.has('perm')
      );
    case 'Reshape':
      return (
        layoutOf(builder, first, tokens) !== null &&
        trailing(builder, node.outputs[0]!, layout).every((dim) => typeof dim === 'number')
      );
    default:
      return false;
  }
}

/** A product with a constant matrix: what costs most of a run. */
export function isWeightProduct(builder: GraphBuilder, node: Node): boolean {
  if (node.op === 'MatMulNBits') return true;
  if (!weightProducts.has(node.op)) return false;
  const turned = ['transA', 'transBatchA', 'transBatchB'].some((name) => intAttribute(node, name, 0) === 1);
  return !turned && isConstantMatrix(builder, node.inputs[1]!);
}

/** Broadcasts over tokens: its axes aligned with the leading ones are 1 or absent. */
function doesNotCarry(builder: GraphBuilder, name: string, rank: number, leading: number): boolean {
  const shape = builder.types.get(name)?.shape ?? null;
  if (shape === null) return false;
  const offset = rank - shape.length;
  return shape.every((dim, i) => i + offset >= leading || dim === 1);
}

function isConstantMatrix(builder: GraphBuilder, name: string): boolean {
  const { shape } = builder.type(name);
  return shape?.length === 2 && shape.every((dim) => typeof dim === 'number');
}

/**
 * Appends a position-wise node again for another choice of tokens. `replaced` gives each input there; `nested` is how a
 * reshape spells the new leading axes, one of them -1. Returns the outputs.
 */
export function repeatNode(
  builder: GraphBuilder,
  node: Node,
  tokens: Tokens,
  replaced: (value: string, i: number) => string,
  nested: readonly [number, number],
): string[] {
  const outputs = node.outputs.map((name) => (name === '' ? '' : builder.fresh('tokens')));
  const isReshape = node.op === 'Reshape';
  const shape = () => {
    const layout = layoutOf(builder, node.outputs[0]!, tokens)!;
    const rest = trailing(builder, node.outputs[0]!, layout) as number[];
    return builder.constant('int64', layout === 'nested' ? [...nested, ...rest] : [-1, ...rest]);
  };
  const inputs = node.inputs.map((name, i) => {
    if (isReshape && i === 1) return shape();
    return name === '' ? '' : replaced(name, i);
  });
  const attributes = isReshape ? attributesOf({}) : new Map(node.attributes);
  builder.append({ ...node, name: outputs[0]!, inputs, outputs, attributes });
  return outputs;
}
