/** Rotary position embeddings (Su et al., arXiv 2104.09864): pairs of features turned by an angle that grows with position. */
import { intAttribute } from '../../onnx/ir.ts';
import { castLike } from '../../ops/shared.ts';
import { count, joinHeads, knownDim, lengthOf, splitHeads } from './heads.ts';
import { type LowerContext, type LoweredOp, read } from './lower.ts';

export interface Rotation {
  /** [B or 1, S, R/2] */
  cos: string;
  sin: string;
  interleaved: boolean;
}

/** x [B, N, S, D] turned; features from R on stay. Pairs are (i, i + R/2), or (2i, 2i + 1) when interleaved. */
export function rotate(c: LowerContext, x: string, rotation: Rotation): string {
  const half = knownDim(c, rotation.cos, -1, 'the size of the rotary cache');
  const size = knownDim(c, x, -1, 'the head size');
  const [turned, rest] = size === 2 * half ? [x, null] : split(c, x, [2 * half, size - 2 * half]);
  const [a, b] = pairs(c, turned!, half, rotation.interleaved);
  const [cos, sin] = [rotation.cos, rotation.sin].map((value) => c.op('Unsqueeze', [value, c.ints([1])]));
  const first = c.op('Sub', [c.op('Mul', [a, cos!]), c.op('Mul', [b, sin!])]);
  const second = c.op('Add', [c.op('Mul', [b, cos!]), c.op('Mul', [a, sin!])]);
  const joined = join(c, first, second, half, rotation.interleaved);
  return rest === null ? joined : c.op('Concat', [joined, rest!], { axis: -1 });
}

function split(c: LowerContext, x: string, sizes: number[]): string[] {
  return c.builder.emit('Split', [x, c.ints(sizes)], { axis: -1 }, { outputs: sizes.length });
}

function pairs(c: LowerContext, x: string, half: number, interleaved: boolean): [string, string] {
  if (!interleaved) return split(c, x, [half, half]) as [string, string];
  const pair = c.op('Reshape', [x, c.ints([0, 0, 0, half, 2])]);
  const [a, b] = split(c, pair, [1, 1]);
  return [c.op('Squeeze', [a!, c.ints([-1])]), c.op('Squeeze', [b!, c.ints([-1])])];
}

function join(c: LowerContext, a: string, b: string, half: number, interleaved: boolean): string {
  if (!interleaved) return c.op('Concat', [a, b], { axis: -1 });
  const columns = [a, b].map((one) => c.op('Unsqueeze', [one, c.ints([-1])]));
  return c.op('Reshape', [c.op('Concat', columns, { axis: -1 }), c.ints([0, 0, 0, 2 * half])]);
}

/** Rows of the caches at positions [B, S]; one position [1] is where the sequence starts. */
export function rotationAt(
  c: LowerContext,
  positions: string,
  caches: { cos: string; sin: string },
  interleaved: boolean,
): Rotation {
  const at = (cache: string) => c.op('Gather', [cache, positions], { axis: 0 });
  return { cos: at(caches.cos), sin: at(caches.sin), interleaved };
}

/** Angles p·base^(−2i/R), in place of a cache, at places that go on from `past` keys; x is [B, N, S, D]. */
export function rotationFrom(c: LowerContext, x: string, past: string | null, size: number, base = 10000): Rotation {
  const places = c.op('Unsqueeze', [count(c, lengthOf(c, x, 2), past), c.ints([0, 2])]);
  const frequencies = Array.from({ length: size / 2 }, (_, i) => base ** ((-2 * i) / size));
  const angles = c.op('Mul', [c.op('Cast', [places], { to: 1 }), c.builder.constant('float32', frequencies)]);
  const [cos, sin] = ['Cos', 'Sin'].map((op) => castLike(c.builder, c.op(op, [angles]), x));
  return { cos: cos!, sin: sin!, interleaved: false };
}

/** x of [B, S, N·D] or [B, N, S, D], turned, in its own layout. */
function rotated(c: LowerContext, x: string, rotation: (length: string) => Rotation, rotaryDim: number): string {
  const flat = c.builder.shape(x).length === 3;
  // Without num_heads the cache tells the head size.
  const length = lengthOf(c, x, flat ? 1 : 2);
  const turn = rotation(length);
  const half = knownDim(c, turn.cos, -1, 'the size of the rotary cache');
  const width = knownDim(c, x, -1, 'the hidden size');
  const heads = intAttribute(c.node, 'num_heads', 0) || width / (2 * half);
  const cut = rotaryDim > 0 && rotaryDim < 2 * half;
  const trimmed = cut
    ? { ...turn, cos: firstColumns(c, turn.cos, rotaryDim / 2), sin: firstColumns(c, turn.sin, rotaryDim / 2) }
    : turn;
  return flat ? joinHeads(c, rotate(c, splitHeads(c, x, heads), trimmed)) : rotate(c, x, trimmed);
}

function firstColumns(c: LowerContext, value: string, columns: number): string {
  return c.op('Slice', [value, c.ints([0]), c.ints([columns]), c.ints([-1])]);
}

/** Inputs x, cosines, sines, positions; without positions the caches are [B, S, R/2]. */
function onnxRotary(c: LowerContext): string[] {
  const [x, positions] = [c.required(0), c.input(3)];
  const caches = { cos: c.required(1), sin: c.required(2) };
  const interleaved = intAttribute(c.node, 'interleaved', 0) === 1;
  const turn = () => (positions === null ? { ...caches, interleaved } : rotationAt(c, positions, caches, interleaved));
  return [rotated(c, x, turn, intAttribute(c.node, 'rotary_embedding_dim', 0))];
}

export const rotaryLowerings: LoweredOp[] = [
  {
    name: 'RotaryEmbedding',
    opsets: [23],
    attributes: { interleaved: read, num_heads: read, rotary_embedding_dim: read },
    inputs: 4,
    lower: onnxRotary,
  },
];
