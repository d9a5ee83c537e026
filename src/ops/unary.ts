/** Elementwise ops of one input. With y = f(x) the gradient is dY · f'(x), written with y where that is cheaper. */
import { multiplyDims } from '../onnx/dim.ts';
import { type DType, dtypeName, isFloat } from '../onnx/dtype.ts';
import { floatAttribute, intAttribute, stringAttribute } from '../onnx/ir.ts';
import { typeOf } from '../onnx/types.ts';
import type { Infer, Op, Vjp, VjpContext } from './op.ts';
import { likeFirst, required } from './shared.ts';

/** A scalar of the element type of input 0. */
export function scalar(c: VjpContext, value: number): string {
  const { dtype } = c.builder.type(c.input(0));
  if (dtype === 'float32' || dtype === 'float16' || dtype === 'float64') return c.builder.constant(dtype, value);
  return c.builder.op('Cast', [c.builder.constant('float32', value)], { to: 16 });
}

export function derivative(compute: (c: VjpContext) => string): Vjp {
  return (c) => [c.builder.op('Mul', [c.gradient(0), compute(c)])];
}

const castInfer: Infer = (node, inputs) => {
  const from = required(node, inputs, 0);
  const to = dtypeName(intAttribute(node, 'to', 1), `Cast "${node.name}"`);
  const truncate = isFloat(from.dtype) && !isFloat(to);
  const value = from.value?.map((one) => (typeof one === 'number' && truncate ? Math.trunc(one) : one)) ?? null;
  return [typeOf(to, from.shape, to === 'bool' ? (value?.map((one) => (one === 0 ? 0 : 1)) ?? null) : value)];
};

const dtypeCodes: Partial<Record<DType, number>> = { float32: 1, float16: 10, float64: 11, bfloat16: 16 };

const passValue: Infer = (node, inputs) => {
  const first = required(node, inputs, 0);
  return [first];
};

/** Folds a function over known numeric elements. */
function folding(compute: (x: number) => number): Infer {
  return (node, inputs) => {
    const first = required(node, inputs, 0);
    const numeric = first.value?.every((one) => typeof one === 'number') ?? false;
    return [typeOf(first.dtype, first.shape, numeric ? (first.value as number[]).map(compute) : null)];
  };
}

/** Sizes keep their symbols: slices from the end count with −n. */
const negInfer: Infer = (node, inputs) => {
  const { dtype, shape, value } = required(node, inputs, 0);
  return [typeOf(dtype, shape, value?.map((one) => multiplyDims(-1, one)) ?? null)];
};

/** Φ(x) + x·φ(x), the derivative of x·Φ(x) with the normal distribution (Hendrycks and Gimpel, arXiv 1606.08415). */
function geluErf(c: VjpContext): string {
  const b = c.builder;
  const u = b.op('Mul', [c.input(0), scalar(c, Math.SQRT1_2)]);
  const cdf = b.op('Add', [b.op('Mul', [b.op('Erf', [u]), scalar(c, 0.5)]), scalar(c, 0.5)]);
  const density = b.op('Exp', [b.op('Neg', [b.op('Mul', [u, u])])]);
  return b.op('Add', [cdf, b.op('Mul', [b.op('Mul', [u, density]), scalar(c, 1 / Math.sqrt(Math.PI))])]);
}

/** Derivative of x·s with s = σ(x(a + bx²)), a = 2√(2/π), b = 0.044715a: s(1 + (1−s)·x(a + 3bx²)). */
function geluTanh(c: VjpContext): string {
  const b = c.builder;
  const x = c.input(0);
  const a = 2 * Math.sqrt(2 / Math.PI);
  // bx² serves both: x(a + 3bx²) is three times x(a/3 + bx²).
  const square = b.op('Mul', [b.op('Mul', [x, x]), scalar(c, 0.044715 * a)]);
  const s = b.op('Sigmoid', [b.op('Mul', [x, b.op('Add', [square, scalar(c, a)])])]);
  const third = b.op('Mul', [x, b.op('Add', [square, scalar(c, a / 3)])]);
  const rest = b.op('Mul', [b.op('Mul', [b.op('Sub', [scalar(c, 1), s]), third]), scalar(c, 3)]);
  return b.op('Mul', [s, b.op('Add', [rest, scalar(c, 1)])]);
}

/** Derivative of x·s, s = σ(αx): s + αy(1−s). */
function swish(c: VjpContext): string {
  const b = c.builder;
  const alpha = floatAttribute(c.node, 'alpha', 1.702);
  const scaled = (value: string) => (alpha === 1 ? value : b.op('Mul', [value, scalar(c, alpha)]));
  const s = b.op('Sigmoid', [scaled(c.input(0))]);
  return b.op('Add', [s, b.op('Mul', [scaled(c.output(0)), b.op('Sub', [scalar(c, 1), s])])]);
}

/** dY where a condition holds, 0 elsewhere. */
function gated(condition: (c: VjpContext) => string, otherwise?: (c: VjpContext) => string): Vjp {
  return (c) => [c.builder.op('Where', [condition(c), c.gradient(0), otherwise?.(c) ?? scalar(c, 0)])];
}

export const unaryOps: Op[] = [
  { name: 'Identity', opsets: [11, 13, 14, 16, 19, 21, 23, 24, 25], infer: passValue, vjp: (c) => [c.gradient(0)] },
  { name: 'Neg', opsets: [11, 13], infer: negInfer, vjp: (c) => [c.builder.op('Neg', [c.gradient(0)])] },
  {
    name: 'Abs',
    opsets: [11, 13],
    infer: folding(Math.abs),
    vjp: derivative((c) => c.builder.op('Sign', [c.input(0)])),
  },
  { name: 'Exp', opsets: [11, 13], infer: likeFirst, vjp: derivative((c) => c.output(0)) },
  { name: 'Log', opsets: [11, 13], infer: likeFirst, vjp: (c) => [c.builder.op('Div', [c.gradient(0), c.input(0)])] },
  { name: 'Sin', opsets: [11, 22], infer: likeFirst, vjp: derivative((c) => c.builder.op('Cos', [c.input(0)])) },
  {
    name: 'Cos',
    opsets: [11, 22],
    infer: likeFirst,
    vjp: derivative((c) => c.builder.op('Neg', [c.builder.op('Sin', [c.input(0)])])),
  },
  {
    name: 'Sqrt',
    opsets: [11, 13],
    infer: folding(Math.sqrt),
    vjp: (c) => [c.builder.op('Div', [c.builder.op('Mul', [c.gradient(0), scalar(c, 0.5)]), c.output(0)])],
  },
  {
    name: 'Reciprocal',
    opsets: [11, 13],
    infer: folding((x) => 1 / x),
    vjp: derivative((c) => c.builder.op('Neg', [c.builder.op('Mul', [c.output(0), c.output(0)])])),
  },
  {
    name: 'Erf',
    opsets: [11, 13],
    infer: likeFirst,
    vjp: derivative((c) => {
      const exponent = c.builder.op('Neg', [c.builder.op('Mul', [c.input(0), c.input(0)])]);
      return c.builder.op('Mul', [c.builder.op('Exp', [exponent]), scalar(c, 2 / Math.sqrt(Math.PI))]);
    }),
  },
  {
    name: 'Tanh',
    opsets: [11, 13],
    infer: likeFirst,
    vjp: derivative((c) => c.builder.op('Sub', [scalar(c, 1), c.builder.op('Mul', [c.output(0), c.output(0)])])),
  },
  {
    name: 'Sigmoid',
    opsets: [11, 13],
    infer: likeFirst,
    vjp: derivative((c) => c.builder.op('Mul', [c.output(0), c.builder.op('Sub', [scalar(c, 1), c.output(0)])])),
  },
  {
    name: 'Softplus',
    opsets: [11, 22],
    infer: likeFirst,
    vjp: derivative((c) => c.builder.op('Sigmoid', [c.input(0)])),
  },
  {
    name: 'Relu',
    opsets: [11, 13, 14],
    infer: likeFirst,
    vjp: gated((c) => c.builder.op('Greater', [c.input(0), scalar(c, 0)])),
  },
  {
    name: 'LeakyRelu',
    opsets: [11, 16],
    infer: likeFirst,
    vjp: gated(
      (c) => c.builder.op('Greater', [c.input(0), scalar(c, 0)]),
      (c) => c.builder.op('Mul', [c.gradient(0), scalar(c, floatAttribute(c.node, 'alpha', 0.01))]),
    ),
  },
  {
    name: 'Elu',
    opsets: [11, 22],
    infer: likeFirst,
    // For x < 0: y = α(eˣ − 1), so y′ = y + α.
    vjp: gated(
      (c) => c.builder.op('Greater', [c.input(0), scalar(c, 0)]),
      (c) => {
        const slope = c.builder.op('Add', [c.output(0), scalar(c, floatAttribute(c.node, 'alpha', 1))]);
        return c.builder.op('Mul', [c.gradient(0), slope]);
      },
    ),
  },
  {
    name: 'Selu',
    opsets: [11, 22],
    infer: likeFirst,
    // γx above 0; γα(eˣ − 1) below, whose derivative is y + γα.
    vjp: (c) => {
      const gamma = floatAttribute(c.node, 'gamma', 1.0507009873554805);
      const shift = gamma * floatAttribute(c.node, 'alpha', 1.6732632423543772);
      const below = c.builder.op('Add', [c.output(0), scalar(c, shift)]);
      const above = c.builder.op('Greater', [c.input(0), scalar(c, 0)]);
      return [c.builder.op('Mul', [c.gradient(0), c.builder.op('Where', [above, scalar(c, gamma), below])])];
    },
  },
  {
    name: 'Celu',
    opsets: [12],
    infer: likeFirst,
    // α(exp(x/α) − 1) below 0, whose derivative is y/α + 1.
    vjp: (c) => {
      const alpha = scalar(c, floatAttribute(c.node, 'alpha', 1));
      const below = c.builder.op('Add', [c.builder.op('Div', [c.output(0), alpha]), scalar(c, 1)]);
      const above = c.builder.op('Greater', [c.input(0), scalar(c, 0)]);
      return [c.builder.op('Mul', [c.gradient(0), c.builder.op('Where', [above, scalar(c, 1), below])])];
    },
  },
  {
    name: 'ThresholdedRelu',
    opsets: [11, 22],
    infer: likeFirst,
    vjp: gated((c) => c.builder.op('Greater', [c.input(0), scalar(c, floatAttribute(c.node, 'alpha', 1))])),
  },
  {
    name: 'Shrink',
    opsets: [11],
    infer: likeFirst,
    // x ± bias beyond ±lambd, 0 between.
    vjp: gated((c) => {
      const limit = scalar(c, floatAttribute(c.node, 'lambd', 0.5));
      return c.builder.op('Greater', [c.builder.op('Abs', [c.input(0)]), limit]);
    }),
  },
  {
    name: 'Softsign',
    opsets: [11, 22],
    infer: likeFirst,
    // 1/(1 + |x|)² = (1 − |y|)²
    vjp: derivative((c) => {
      const rest = c.builder.op('Sub', [scalar(c, 1), c.builder.op('Abs', [c.output(0)])]);
      return c.builder.op('Mul', [rest, rest]);
    }),
  },
  {
    name: 'HardSwish',
    opsets: [14, 22],
    infer: likeFirst,
    // x·clip(x/6 + 1/2, 0, 1): 0 below −3, 1 above 3, x/3 + 1/2 between.
    vjp: derivative((c) => {
      const b = c.builder;
      const [lower, upper] = [b.op('Less', [c.input(0), scalar(c, -3)]), b.op('Greater', [c.input(0), scalar(c, 3)])];
      const between = b.op('Add', [b.op('Mul', [c.input(0), scalar(c, 1 / 3)]), scalar(c, 0.5)]);
      return b.op('Where', [lower, scalar(c, 0), b.op('Where', [upper, scalar(c, 1), between])]);
    }),
  },
  {
    name: 'HardSigmoid',
    opsets: [11, 22],
    infer: likeFirst,
    vjp: (c) => {
      const b = c.builder;
      const above = b.op('Greater', [c.output(0), scalar(c, 0)]);
      const below = b.op('Less', [c.output(0), scalar(c, 1)]);
      const slope = b.op('Mul', [c.gradient(0), scalar(c, floatAttribute(c.node, 'alpha', 0.2))]);
      return [b.op('Where', [b.op('And', [above, below]), slope, scalar(c, 0)])];
    },
  },
  {
    name: 'Mish',
    opsets: [18, 22],
    infer: likeFirst,
    // y = x·t, t = tanh(softplus x): y′ = t + x·(1 − t²)·σ(x).
    vjp: derivative((c) => {
      const b = c.builder;
      const t = b.op('Tanh', [b.op('Softplus', [c.input(0)])]);
      const inner = b.op('Mul', [b.op('Sub', [scalar(c, 1), b.op('Mul', [t, t])]), b.op('Sigmoid', [c.input(0)])]);
      return b.op('Add', [t, b.op('Mul', [c.input(0), inner])]);
    }),
  },
  {
    name: 'Gelu',
    opsets: [20],
    infer: likeFirst,
    vjp: derivative((c) => (stringAttribute(c.node, 'approximate', 'none') === 'tanh' ? geluTanh(c) : geluErf(c))),
  },
  { name: 'Gelu', domain: 'com.microsoft', opsets: [1], infer: likeFirst, vjp: derivative(geluErf) },
  { name: 'QuickGelu', domain: 'com.microsoft', opsets: [1], infer: likeFirst, vjp: derivative(swish) },
  {
    name: 'Cast',
    opsets: [11, 13, 19, 21, 23, 24, 25],
    infer: castInfer,
    vjp: (c) => {
      const { dtype } = c.builder.type(c.input(0));
      const to = dtypeCodes[dtype];
      // Of a rounded value on the path (see quantize.ts) the gradient is a float like any other.
      return [to === undefined ? c.gradient(0) : c.builder.op('Cast', [c.gradient(0)], { to })];
    },
  },
  {
    name: 'Dropout',
    opsets: [11, 12, 13, 22],
    infer: (node, inputs) => [required(node, inputs, 0), typeOf('bool', required(node, inputs, 0).shape)],
    vjp: (c) => [c.gradient(0), null, null],
  },
  { name: 'Floor', opsets: [11, 13], infer: folding(Math.floor), vjp: { none: 'is piecewise constant' } },
  { name: 'Ceil', opsets: [11, 13], infer: folding(Math.ceil), vjp: { none: 'is piecewise constant' } },
  { name: 'Round', opsets: [11, 22], infer: likeFirst, vjp: { none: 'is piecewise constant' } },
  { name: 'Sign', opsets: [11, 13], infer: likeFirst, vjp: { none: 'is piecewise constant' } },
];
