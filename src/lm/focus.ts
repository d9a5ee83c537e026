/**
 * Reads logits only where they are needed. Everything after the last mixing of positions (output projection, MLP, final
 * norm, head) is position-wise: it is repeated for the target positions alone, and the full-length original falls away.
 */
import { valuesRead } from '../autodiff/prune.ts';
import type { GraphBuilder } from '../onnx/builder.ts';
import { type Dim, multiplyDims, sameDim } from '../onnx/dim.ts';
import { attributesOf, intAttribute, intsAttribute, type Node } from '../onnx/ir.ts';
import { batch, feeds, idsRead } from './feeds.ts';

/** How a value carries positions: as axes 0 and 1, or as one axis of batch · sequence. */
type Layout = 'nested' | 'flat';

const elementwise = new Set([
  ...['Add', 'Sub', 'Mul', 'Div', 'Pow', 'Min', 'Max', 'Sum', 'Mean', 'Where', 'Clip', 'Equal', 'Greater', 'Less'],
  ...[
    'Identity',
    'Neg',
    'Abs',
    'Exp',
    'Log',
    'Sqrt',
    'Reciprocal',
    'Erf',
    'Tanh',
    'Sigmoid',
    'Softplus',
    'Relu',
    'LeakyRelu',
  ],
  ...[
    'Elu',
    'Selu',
    'Celu',
    'PRelu',
    'HardSigmoid',
    'HardSwish',
    'Softsign',
    'Mish',
    'Gelu',
    'Cast',
    'Sin',
    'Cos',
    'IsNaN',
    'Not',
    'Dropout',
  ],
]);
const reductions = new Set(['ReduceMean', 'ReduceSum', 'ReduceMax', 'ReduceMin', 'ReduceL2', 'ReduceSumSquare']);

/** `logits` [batch, sequence, V] at the targets: [batch, 1, V]. The targets are a feed that must be declared. */
export function focusAtTargets(builder: GraphBuilder, logits: string): string {
  const focusable = focusableNodes(builder, logits);
  const producers = new Map<string, Node>();
  for (const node of focusable) for (const name of node.outputs) producers.set(name, node);
  const focused = new Map<string, string>();

  const visit = (value: string): string => {
    const found = focused.get(value);
    if (found !== undefined) return found;
    const layout = layoutOf(builder, value);
    const node = producers.get(value);
    if (layout === null) return value;
    if (node === undefined) {
      const gathered = gatherTargets(builder, value, layout);
      focused.set(value, gathered);
      return gathered;
    }
    const outputs = repeat(builder, node, visit);
    for (const [i, name] of node.outputs.entries()) focused.set(name, outputs[i]!);
    return focused.get(value)!;
  };
  return visit(logits);
}

/** Nodes that are position-wise and whose results only such nodes read, from the logits upwards. */
function focusableNodes(builder: GraphBuilder, logits: string): Set<Node> {
  const readers = new Map<string, Node[]>();
  for (const node of builder.graph.nodes) {
    for (const name of valuesRead(node)) readers.set(name, [...(readers.get(name) ?? []), node]);
  }
  const focusable = new Set<Node>();
  for (const node of [...builder.graph.nodes].reverse()) {
    const only = node.outputs.every((name) => {
      const list = readers.get(name) ?? [];
      return name === logits ? list.length === 0 : list.length > 0 && list.every((reader) => focusable.has(reader));
    });
    if (only && isPositionWise(builder, node)) focusable.add(node);
  }
  return focusable;
}

function layoutOf(builder: GraphBuilder, value: string): Layout | null {
  const shape = builder.types.get(value)?.shape ?? null;
  if (shape === null || shape.length < 2) return null;
  const sequence = builder.shape(idsRead(builder))[1]!;
  if (sameDim(shape[0]!, batch) && sameDim(shape[1]!, sequence)) return 'nested';
  return sameDim(shape[0]!, multiplyDims(batch, sequence)) ? 'flat' : null;
}

function isPositionWise(builder: GraphBuilder, node: Node): boolean {
  const layouts = node.outputs.map((name) => (name === '' ? null : layoutOf(builder, name)));
  const layout = layouts[0];
  if (layout === null || layout === undefined || layouts.some((one) => one !== layout)) return false;
  const leading = layout === 'nested' ? 2 : 1;
  const first = node.inputs[0]!;
  const rank = builder.shape(node.outputs[0]!).length;
  const inputCarries = layoutOf(builder, first) === layout;
  const free = (name: string, outRank: number) => name === '' || doesNotCarry(builder, name, outRank, leading);
  const axis = (fallback: number) => {
    const given = intAttribute(node, 'axis', fallback);
    return given < 0 ? given + rank : given;
  };
  if (elementwise.has(node.op)) {
    return node.inputs.every(
      (name) => free(name, rank) || (layoutOf(builder, name) === layout && builder.shape(name).length === rank),
    );
  }
  if (reductions.has(node.op)) {
    const axes = (builder.types.get(node.inputs[1] ?? '')?.value ?? []) as number[];
    const inside = axes.length > 0 && axes.every((one) => (one < 0 ? one + rank : one) >= leading);
    return inputCarries && inside && intAttribute(node, 'keepdims', 1) === 1;
  }
  switch (node.op) {
    case 'MatMul':
      return inputCarries && rank > leading && isConstantMatrix(builder, node.inputs[1]!);
    case 'MatMulNBits':
      return inputCarries && rank > leading;
    case 'Gemm': {
      const bias = node.inputs[2] ?? '';
      return (
        inputCarries &&
        intAttribute(node, 'transA', 0) === 0 &&
        isConstantMatrix(builder, node.inputs[1]!) &&
        free(bias, rank)
      );
    }
    case 'LayerNormalization':
    case 'Softmax':
    case 'LogSoftmax':
      return inputCarries && axis(-1) >= leading;
    case 'Split':
    case 'Concat':
      return (
        axis(0) >= leading &&
        (node.op === 'Split' ? inputCarries : node.inputs.every((name) => layoutOf(builder, name) === layout))
      );
    case 'Transpose':
      return (
        inputCarries &&
        (intsAttribute(node, 'perm') ?? []).slice(0, leading).every((from, to) => from === to) &&
        node.attributes.has('perm')
      );
    case 'Reshape':
      return (
        layoutOf(builder, first) !== null &&
        trailing(builder, node.outputs[0]!, layout).every((dim) => typeof dim === 'number')
      );
    default:
      return false;
  }
}

/** Broadcasts over positions: its axes aligned with the leading ones are 1 or absent. */
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

function trailing(builder: GraphBuilder, name: string, layout: Layout): Dim[] {
  return builder.shape(name).slice(layout === 'nested' ? 2 : 1);
}

function repeat(builder: GraphBuilder, node: Node, visit: (value: string) => string): string[] {
  const outputs = node.outputs.map((name) => (name === '' ? '' : builder.fresh('focused')));
  const inputs = node.inputs.map((name, i) =>
    node.op === 'Reshape' && i === 1 ? targetShape(builder, node) : name === '' ? '' : visit(name),
  );
  const attributes = node.op === 'Reshape' ? attributesOf({}) : new Map(node.attributes);
  builder.append({ ...node, inputs, outputs, attributes });
  return outputs;
}

/** Shape of a reshaped value when only targets are left: the leading axes change, the rest stays. */
function targetShape(builder: GraphBuilder, node: Node): string {
  const layout = layoutOf(builder, node.outputs[0]!)!;
  const rest = trailing(builder, node.outputs[0]!, layout) as number[];
  return builder.constant('int64', layout === 'nested' ? [-1, 1, ...rest] : [-1, ...rest]);
}

/** Rows of `value` at the targets: [batch, 1, …] or [batch, …]. */
function gatherTargets(builder: GraphBuilder, value: string, layout: Layout): string {
  const rows = batchIndex(builder);
  if (layout === 'nested') {
    const last = builder.constant('int64', [-1]);
    const parts = [rows, feeds.targets].map((one) => builder.op('Unsqueeze', [one, last]));
    return builder.op('GatherND', [value, builder.op('Concat', parts, { axis: 2 })]);
  }
  const length = builder.op('Shape', [idsRead(builder)], { start: 1, end: 2 });
  const flat = builder.op('Add', [builder.op('Mul', [rows, length]), feeds.targets]);
  return builder.op('Gather', [value, builder.op('Squeeze', [flat, builder.constant('int64', [1])])], { axis: 0 });
}

/** 0 … batch − 1 as [batch, 1]. */
function batchIndex(builder: GraphBuilder): string {
  const count = builder.op('Squeeze', [builder.op('Shape', [feeds.ids], { start: 0, end: 1 })]);
  const range = builder.op('Range', [builder.constant('int64', 0), count, builder.constant('int64', 1)]);
  return builder.op('Unsqueeze', [range, builder.constant('int64', [1])]);
}
