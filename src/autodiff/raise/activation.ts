/**
 * Activations that exporters write out, in as many spellings as there are exporters. They are known by what they compute:
 * stretches of elementwise ops that depend on one value and on numbers are evaluated at sample points.
 */
import { type AttributeInit, attributesOf, type Node } from '../../onnx/ir.ts';
import type { Pattern, View } from './view.ts';

/** Values of a function at the sample points, and the value that it is a function of. */
interface Curve {
  source: string;
  values: Float64Array;
}

const points = Float64Array.from([
  ...Array.from({ length: 129 }, (_, i) => (i - 64) / 8),
  ...[-60, -20.3, 0.003, -0.017, 11.1, 25.5, 60],
]);

const unary: Readonly<Record<string, (x: number) => number>> = {
  Identity: (x) => x,
  Neg: (x) => -x,
  Exp: Math.exp,
  Tanh: Math.tanh,
  Sigmoid: sigmoid,
  Erf: erf,
  Reciprocal: (x) => 1 / x,
  Softplus: (x) => (x > 30 ? x : Math.log1p(Math.exp(x))),
};
const binary: Readonly<Record<string, (x: number, y: number) => number>> = {
  Add: (x, y) => x + y,
  Sub: (x, y) => x - y,
  Mul: (x, y) => x * y,
  Div: (x, y) => x / y,
  Pow: (x, y) => x ** y,
};

interface Activation {
  compute(x: number): number;
  op: string;
  domain: string;
  attributes: Record<string, AttributeInit>;
}

const microsoft = 'com.microsoft';
const activationsKnown: readonly Activation[] = [
  { compute: (x) => 0.5 * x * (1 + erf(x * Math.SQRT1_2)), op: 'Gelu', domain: '', attributes: {} },
  { compute: tanhGelu, op: 'Gelu', domain: '', attributes: { approximate: 'tanh' } },
  ...[1, 1.702].map((alpha) => ({
    compute: (x: number) => x * sigmoid(alpha * x),
    ...{ op: 'QuickGelu', domain: microsoft, attributes: { alpha: { float: alpha } } },
  })),
];
const known = activationsKnown.map((one) => ({ ...one, values: points.map(one.compute) }));

/** GELU, by erf and by tanh, and x·σ(αx), from its parts. */
export function activations(): Pattern {
  const curves = new Map<string, Curve>();
  const curveOf = (value: string): Curve => curves.get(value) ?? { source: value, values: points };
  return (view, node) => {
    const curve = node.domain === '' ? follow(view, node, curveOf) : null;
    if (curve === null) return null;
    curves.set(node.outputs[0]!, curve);
    const found = known.find(({ values }) => isSame(curve.values, values));
    if (found === undefined) return null;
    const { op, domain, attributes } = found;
    return { ...node, op, domain, inputs: [curve.source], attributes: attributesOf(attributes) };
  };
}

function follow(view: View, node: Node, curveOf: (value: string) => Curve): Curve | null {
  const [a, b] = node.inputs as [string, string];
  const one = unary[node.op];
  if (one !== undefined) {
    const { source, values } = curveOf(a);
    return { source, values: values.map(one) };
  }
  const two = binary[node.op];
  if (two === undefined) return null;
  const [left, right] = [numberIn(view, a, b), numberIn(view, b, a)];
  if (left !== null && right !== null) return null;
  const { source, values } = curveOf(left === null ? a : b);
  if (left !== null) return { source, values: values.map((y) => two(left, y)) };
  if (right !== null) return { source, values: values.map((x) => two(x, right)) };
  const other = curveOf(b);
  return other.source === source ? { source, values: values.map((x, i) => two(x, other.values[i]!)) } : null;
}

/** A number that does not change the shape of what it is combined with. */
function numberIn({ builder, scalar }: View, value: string, beside: string): number | null {
  const rank = builder.types.get(value)?.shape?.length ?? Number.POSITIVE_INFINITY;
  return rank <= (builder.types.get(beside)?.shape?.length ?? 0) ? scalar(value) : null;
}

/** Constants are written in single precision. */
function isSame(found: Float64Array, wanted: Float64Array): boolean {
  return found.every((value, i) => Math.abs(value - wanted[i]!) <= 2e-6 * (1 + Math.abs(wanted[i]!)));
}

function sigmoid(x: number): number {
  return 1 / (1 + Math.exp(-x));
}

/** x·σ(2√(2/π)(x + 0.044715x³)) (Hendrycks and Gimpel, arXiv 1606.08415). */
function tanhGelu(x: number): number {
  return x * sigmoid(2 * Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3));
}

/** Maclaurin series where it converges fast, continued fraction of the complement beyond (Abramowitz and Stegun, 7.1.5, 7.1.14). */
function erf(x: number): number {
  const size = Math.abs(x);
  if (size > 6) return Math.sign(x);
  if (size < 2.5) {
    let [term, sum] = [x, x];
    for (let n = 1; n < 60; n++) {
      term *= -(x * x) / n;
      sum += term / (2 * n + 1);
    }
    return (2 / Math.sqrt(Math.PI)) * sum;
  }
  let fraction = 0;
  for (let n = 60; n > 0; n--) fraction = n / 2 / (size + fraction);
  return Math.sign(x) * (1 - Math.exp(-size * size) / (Math.sqrt(Math.PI) * (size + fraction)));
}
