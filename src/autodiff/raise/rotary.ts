/** x·cos + rotate_half(x)·sin, as Hugging Face's LMs export it, becomes one node; its gradient turns back by the same angle. */
import type { GraphBuilder } from '../../onnx/builder.ts';
import { type Dim, sameDim } from '../../onnx/dim.ts';
import { attributesOf, intAttribute, type Node } from '../../onnx/ir.ts';
import { operands, type Pattern, type View } from './view.ts';

interface Angles {
  /** Cosines and sines [B or 1, S, D], whose halves along D are equal. */
  cos: string;
  sin: string;
}

/** x [B, N, S, D] */
export function rotaryEmbedding(): Pattern {
  /** Caches and positions by the angles they were made of: all layers turn by the same. */
  const made = new Map<string, string[]>();
  return (view, node) => {
    const found = rotated(view, node);
    if (found === null) return null;
    const { x, cos, sin } = found;
    const key = `${cos} ${sin}`;
    const rest = made.get(key) ?? caches(view.builder, found);
    made.set(key, rest);
    return {
      ...node,
      op: 'RotaryEmbedding',
      domain: 'com.microsoft',
      inputs: [x, ...rest],
      attributes: attributesOf({}),
    };
  };
}

function rotated(view: View, node: Node): ({ x: string } & Angles) | null {
  if (node.op !== 'Add' || node.domain !== '') return null;
  const { builder, producer } = view;
  const [first, second] = node.inputs.map(producer);
  for (const [plain, turned] of [
    [first, second],
    [second, first],
  ]) {
    const half = operands(turned, 'Mul', (value) => turnedFrom(view, value) !== null);
    const x = half === null ? null : turnedFrom(view, half[0]);
    const whole = x === null ? null : operands(plain, 'Mul', (value) => value === x);
    if (half === null || x === null || whole === null) continue;
    const [cos, sin] = [angle(view, whole[1], 'Cos'), angle(view, half[1], 'Sin')];
    const shape = builder.types.get(x)?.shape;
    if (cos === null || sin === null || cos.of !== sin.of || shape?.length !== 4) continue;
    if (fits(builder.shape(cos.value), shape)) return { x, cos: cos.value, sin: sin.value };
  }
  return null;
}

/** Angles [B or 1, S, D] for x [B, N, S, D]. */
function fits(angles: readonly Dim[], x: readonly Dim[]): boolean {
  const [batch, length, size] = angles as [Dim, Dim, Dim];
  if (typeof size !== 'number' || size !== x[3] || !sameDim(length, x[2]!)) return false;
  return batch === 1 || sameDim(batch, x[0]!);
}

/** x of concat(−x₂, x₁), its second half negated in front of its first. */
function turnedFrom(view: View, value: string): string | null {
  const node = view.producer(value);
  if (node?.op !== 'Concat' || node.inputs.length !== 2) return null;
  const axis = intAttribute(node, 'axis', 0);
  const [negated, first] = node.inputs as [string, string];
  const negation = view.producer(negated);
  if (negation?.op !== 'Neg') return null;
  const [a, b] = [part(view, first, axis), part(view, negation.inputs[0]!, axis)];
  const size = a === null ? undefined : view.builder.shape(a.x).at(-1);
  if (a === null || b === null || a.x !== b.x || typeof size !== 'number') return null;
  return a.from === 0 && a.to === size / 2 && b.from === size / 2 && b.to === size ? a.x : null;
}

/** What a value is of x along the last axis: [from, to). */
function part(view: View, value: string, axis: number): { x: string; from: number; to: number } | null {
  const node = view.producer(value);
  const x = node?.inputs[0] ?? '';
  const shape = view.builder.types.get(x)?.shape;
  const size = shape?.at(-1);
  if (node === undefined || !shape || typeof size !== 'number') return null;
  const isLast = (one: number | null) => one === -1 || one === shape.length - 1;
  if (!isLast(axis)) return null;
  if (node.op === 'Slice') {
    const [, start, end, axes, step] = node.inputs.map((name) => (name === '' ? null : view.scalar(name)));
    if (start == null || end == null || axes == null || !isLast(axes) || (step ?? 1) !== 1) return null;
    const inside = (place: number) => Math.min(size, place < 0 ? place + size : place);
    return { x, from: inside(start), to: inside(end) };
  }
  if (node.op !== 'Split' || !isLast(intAttribute(node, 'axis', 0)) || node.outputs.length !== 2) return null;
  return node.outputs[0] === value ? { x, from: 0, to: size / 2 } : { x, from: size / 2, to: size };
}

/** Cosines or sines under a new axis for the heads, when made of two equal halves: the value [.., S, D] and what they are of. */
function angle(view: View, value: string, op: 'Cos' | 'Sin'): { value: string; of: string } | null {
  const { builder, producer, scalar } = view;
  const lift = producer(value);
  if (lift?.op !== 'Unsqueeze' || scalar(lift.inputs[1]!) !== 1) return null;
  const whole = lift.inputs[0]!;
  if (builder.types.get(whole)?.shape?.length !== 3) return null;
  let at = whole;
  for (;;) {
    const node = producer(at);
    if (node?.op === op) {
      const halves = producer(node.inputs[0]!);
      const isTwice = halves?.op === 'Concat' && halves.inputs.length === 2 && halves.inputs[0] === halves.inputs[1];
      const axis = halves === undefined ? 0 : intAttribute(halves, 'axis', 0);
      return isTwice && (axis === -1 || axis === 2) ? { value: whole, of: node.inputs[0]! } : null;
    }
    const scaled = operands(node, 'Mul', (one) => scalar(one) !== null)?.[1];
    const same = node?.op === 'Cast' || node?.op === 'Identity' ? node.inputs[0] : scaled;
    if (same === undefined) return null;
    at = same;
  }
}

/** Positions and caches [B·S, D/2]: every token has a row of its own. Of one row for all, positions count from an offset. */
function caches(builder: GraphBuilder, { cos, sin }: Angles): string[] {
  const [batch, , size] = builder.shape(cos) as [Dim, Dim, number];
  const constant = (...values: number[]) => builder.constant('int64', values);
  const [cosines, sines] = [cos, sin].map((value) => {
    const half = builder.op('Slice', [value, constant(0), constant(size / 2), constant(2)]);
    return builder.op('Reshape', [half, constant(-1, size / 2)]);
  });
  if (batch === 1) return [constant(0), cosines!, sines!];
  const shape = builder.op('Shape', [cos], { start: 0, end: 2 });
  const [rows, length] = [0, 1].map((axis) => builder.op('Shape', [cos], { start: axis, end: axis + 1 }));
  const count = builder.op('Squeeze', [builder.op('Mul', [rows!, length!])]);
  const range = builder.op('Range', [builder.constant('int64', 0), count, builder.constant('int64', 1)]);
  return [builder.op('Reshape', [range, shape]), cosines!, sines!];
}
