/** Elementwise ops of several inputs with broadcasting; the engine reduces gradients to each operand's shape. */
import {
  addDims,
  clampDim,
  type Dim,
  divideDims,
  multiplyDims,
  sameDim,
  sameShape,
  subtractDims,
} from '../onnx/dim.ts';
import { isFloat } from '../onnx/dtype.ts';
import { type TensorType, typeOf } from '../onnx/types.ts';
import type { Infer, Op, Vjp, VjpContext } from './op.ts';
import { broadcasting, castLike, knownElements, knownNumbers, required } from './shared.ts';
import { scalar } from './unary.ts';

function arithmetic(compute: (x: Dim, y: Dim, float: boolean) => Dim | null): Infer {
  const shapes = broadcasting();
  return (node, inputs) => {
    const [type] = shapes(node, inputs);
    const a = required(node, inputs, 0);
    const value = knownElements(a, required(node, inputs, 1), (x, y) => compute(x, y, isFloat(a.dtype)));
    return [typeOf(type!.dtype, type!.shape, value)];
  };
}

function quotient(x: Dim, y: Dim, float: boolean): Dim | null {
  if (typeof x === 'number' && typeof y === 'number') return float ? x / y : y === 0 ? null : Math.trunc(x / y);
  return float ? null : divideDims(x, y);
}

/** Known elements of two operands; more have none. */
function extremum(compute: (x: Dim, y: Dim) => Dim | null): Infer {
  const two = arithmetic(compute);
  return (node, inputs) => (inputs.length === 2 ? two(node, inputs) : broadcasting()(node, inputs));
}

function smaller(x: Dim, y: Dim): Dim | null {
  if (typeof x === 'number' && typeof y === 'number') return Math.min(x, y);
  if (typeof x === 'number') return x > 1 ? clampDim(x, y) : null;
  return typeof y === 'number' && y > 1 ? clampDim(y, x) : null;
}

function larger(x: Dim, y: Dim): Dim | null {
  return typeof x === 'number' && typeof y === 'number' ? Math.max(x, y) : null;
}

/** d(xᵉ)/dx = e·xᵉ⁻¹; small exponents through Mul, which is two to three times faster than Pow. */
const powVjp: Vjp = (c) => {
  const b = c.builder;
  const [x, e] = [c.input(0), c.input(1)];
  const known = knownNumbers(b.type(e));
  const exponent = known !== null && known.length === 1 ? known[0]! : null;
  if (exponent === 0) return [null, null];
  if (exponent === 1) return [c.gradient(0), null];
  if (exponent === 2) return [b.op('Mul', [c.gradient(0), b.op('Mul', [x, scalar(c, 2)])]), null];
  if (exponent === 3) {
    return [b.op('Mul', [c.gradient(0), b.op('Mul', [b.op('Mul', [x, x]), scalar(c, 3)])]), null];
  }
  if (exponent === 0.5) return [b.op('Div', [b.op('Mul', [c.gradient(0), scalar(c, 0.5)]), c.output(0)]), null];
  if (exponent !== null) {
    const slope = b.op('Mul', [b.op('Pow', [x, scalar(c, exponent - 1)]), scalar(c, exponent)]);
    return [b.op('Mul', [c.gradient(0), slope]), null];
  }
  const { dtype } = b.type(x);
  const power = b.type(e).dtype === dtype ? e : castLike(b, e, x);
  const zero = scalar(c, 0);
  // 0·∞ at x = 0 is NaN: x⁰ has the slope 0 there, and 0ᵉ does not change with e.
  const power1 = b.op('Pow', [x, b.op('Sub', [power, scalar(c, 1)])]);
  const slope = b.op('Where', [b.op('Equal', [power, zero]), zero, b.op('Mul', [power, power1])]);
  const growth = b.op('Mul', [c.output(0), b.op('Log', [x])]);
  const wrtExponent = b.op('Mul', [c.gradient(0), b.op('Where', [b.op('Equal', [x, zero]), zero, growth])]);
  return [b.op('Mul', [c.gradient(0), slope]), b.type(e).dtype === dtype ? wrtExponent : null];
};

/** Equal shares where several operands reach the extremum. */
const extremumVjp: Vjp = (c) => {
  const b = c.builder;
  const { dtype } = b.type(c.input(0));
  const hits = c.node.inputs.map((_, i) => castLike(b, b.op('Equal', [c.input(i), c.output(0)]), c.input(0)));
  if (hits.length === 1) return [c.gradient(0)];
  const total = hits.reduce((sum, hit) => b.op('Add', [sum, hit]));
  const share = b.op('Div', [c.gradient(0), total]);
  return isFloat(dtype) ? hits.map((hit) => b.op('Mul', [share, hit])) : hits.map(() => null);
};

/**
 * Gradient passes where lower < x < upper and also at the bounds (PyTorch's convention for clamp); beyond a bound it is
 * the bound's. Where the bounds cross, the upper one holds.
 */
const clipVjp: Vjp = (c) => {
  const b = c.builder;
  const x = c.input(0);
  const [lower, upper] = [1, 2].map((i) => c.node.inputs[i] || null);
  const where = (condition: string) => b.op('Where', [condition, c.gradient(0), scalar(c, 0)]);
  const both = (one: string | null, other: string | null) =>
    one === null || other === null ? (one ?? other) : b.op('And', [one, other]);
  const above = lower ? b.op('GreaterOrEqual', [x, lower]) : null;
  const below = upper ? b.op('LessOrEqual', [x, upper]) : null;
  const crossed = lower && upper ? b.op('Greater', [lower, upper]) : null;
  const inside = both(above, below);
  const under = above === null ? null : both(b.op('Not', [above]), crossed === null ? null : b.op('Not', [crossed]));
  const over = below === null ? null : b.op('Not', [below]);
  const beyond = over === null || crossed === null ? over : b.op('Or', [over, crossed]);
  return [inside === null ? c.gradient(0) : where(inside), under && where(under), beyond && where(beyond)];
};

const whereInfer: Infer = (node, inputs) => {
  const [condition, a, b] = [0, 1, 2].map((i) => required(node, inputs, i));
  const [type] = broadcasting(a!.dtype)(node, inputs);
  const value = pickKnown([condition!, a!, b!]);
  return [typeOf(a!.dtype, type!.shape, value)];
};

function pickKnown(operands: TensorType[]): Dim[] | null {
  const [condition, a, b] = operands.map((one) => one.value);
  if (!condition || !a || !b) return null;
  const largest = operands.find((one) => one.value?.length !== 1) ?? operands[0]!;
  const fits = (one: TensorType) => one.value?.length === 1 || sameShape(one.shape ?? [], largest.shape ?? [-1]);
  if (!operands.every(fits)) return null;
  const length = largest.value?.length ?? 1;
  const at = (list: Dim[], i: number) => list[list.length === 1 ? 0 : i]!;
  return Array.from({ length }, (_, i) => at(at(condition, i) === 0 ? b : a, i));
}

function half(c: VjpContext, i: number): string {
  const zero = castLike(c.builder, c.builder.constant('float32', 0), c.gradient(0));
  const operands = i === 1 ? [c.gradient(0), zero] : [zero, c.gradient(0)];
  return c.builder.op('Where', [c.input(0), ...operands]);
}

export const arithmeticOps: Op[] = [
  {
    name: 'Add',
    opsets: [11, 13, 14],
    infer: arithmetic((x, y) => addDims(x, y)),
    vjp: (c) => [c.gradient(0), c.gradient(0)],
  },
  {
    name: 'Sub',
    opsets: [11, 13, 14],
    infer: arithmetic((x, y) => subtractDims(x, y)),
    vjp: (c) => [c.gradient(0), c.builder.op('Neg', [c.gradient(0)])],
  },
  {
    name: 'Mul',
    opsets: [11, 13, 14],
    infer: arithmetic((x, y) => multiplyDims(x, y)),
    vjp: (c) => [c.builder.op('Mul', [c.gradient(0), c.input(1)]), c.builder.op('Mul', [c.gradient(0), c.input(0)])],
  },
  {
    name: 'Div',
    opsets: [11, 13, 14],
    infer: arithmetic(quotient),
    vjp: (c) => {
      const share = c.builder.op('Div', [c.gradient(0), c.input(1)]);
      return [share, c.builder.op('Neg', [c.builder.op('Mul', [share, c.output(0)])])];
    },
  },
  {
    name: 'Pow',
    opsets: [11, 12, 13, 15],
    infer: arithmetic((x, y) => (typeof x === 'number' && typeof y === 'number' ? x ** y : null)),
    vjp: powVjp,
  },
  { name: 'Sum', opsets: [11, 13], infer: broadcasting(), vjp: (c) => c.node.inputs.map(() => c.gradient(0)) },
  {
    name: 'Mean',
    opsets: [11, 13],
    infer: broadcasting(),
    vjp: (c) => {
      const share = c.builder.op('Div', [c.gradient(0), scalar(c, c.node.inputs.length)]);
      return c.node.inputs.map(() => share);
    },
  },
  { name: 'Min', opsets: [11, 12, 13], infer: extremum(smaller), vjp: extremumVjp },
  { name: 'Max', opsets: [11, 12, 13], infer: extremum(larger), vjp: extremumVjp },
  {
    name: 'Clip',
    opsets: [11, 12, 13],
    infer: (node, inputs) => [typeOf(required(node, inputs, 0).dtype, required(node, inputs, 0).shape)],
    vjp: clipVjp,
  },
  {
    name: 'PRelu',
    opsets: [11, 16],
    infer: broadcasting(),
    vjp: (c) => {
      const b = c.builder;
      const above = b.op('Greater', [c.input(0), scalar(c, 0)]);
      const dx = b.op('Where', [above, c.gradient(0), b.op('Mul', [c.gradient(0), c.input(1)])]);
      return [dx, b.op('Where', [above, scalar(c, 0), b.op('Mul', [c.gradient(0), c.input(0)])])];
    },
  },
  { name: 'Where', opsets: [11, 16], infer: whereInfer, vjp: (c) => [null, half(c, 1), half(c, 2)] },
  {
    name: 'Mod',
    opsets: [11, 13],
    infer: broadcasting(),
    // y = x − q·d with a whole quotient q, which is constant between its jumps.
    vjp: (c) => {
      const quotient = c.builder.op('Div', [c.builder.op('Sub', [c.output(0), c.input(0)]), c.input(1)]);
      return [c.gradient(0), c.builder.op('Mul', [c.gradient(0), quotient])];
    },
  },
  {
    name: 'CastLike',
    opsets: [15, 19, 21, 23, 24, 25],
    infer: (node, inputs) => [
      typeOf(required(node, inputs, 1).dtype, required(node, inputs, 0).shape, required(node, inputs, 0).value),
    ],
    vjp: (c) => [castLike(c.builder, c.gradient(0), c.input(0)), null],
  },
];

/** Whether two known elements are equal: false also for a symbolic dimension against a negative number. */
export function knownEqual(x: Dim, y: Dim): boolean | null {
  if (sameDim(x, y)) return true;
  if (typeof x === 'number' && typeof y === 'number') return false;
  const number = typeof x === 'number' ? x : typeof y === 'number' ? y : 0;
  return number < 0 ? false : null;
}
