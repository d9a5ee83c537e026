/** Trigonometric and hyperbolic functions beside those of unary.ts, which activations use. */
import type { Op, VjpContext } from './op.ts';
import { likeFirst } from './shared.ts';
import { derivative, scalar } from './unary.ts';

/** a + s·x² */
function aroundSquare(c: VjpContext, a: number, sign: 'Add' | 'Sub'): string {
  return c.builder.op(sign, [scalar(c, a), c.builder.op('Mul', [c.input(0), c.input(0)])]);
}

const inverseRoot = (c: VjpContext, square: string) => c.builder.op('Reciprocal', [c.builder.op('Sqrt', [square])]);

function record(name: string, slope: (c: VjpContext) => string): Op {
  return { name, opsets: [11, 22], infer: likeFirst, vjp: derivative(slope) };
}

export const trigonometryOps: Op[] = [
  record('Tan', (c) => c.builder.op('Add', [scalar(c, 1), c.builder.op('Mul', [c.output(0), c.output(0)])])),
  record('Asin', (c) => inverseRoot(c, aroundSquare(c, 1, 'Sub'))),
  record('Acos', (c) => c.builder.op('Neg', [inverseRoot(c, aroundSquare(c, 1, 'Sub'))])),
  record('Atan', (c) => c.builder.op('Reciprocal', [aroundSquare(c, 1, 'Add')])),
  record('Sinh', (c) => c.builder.op('Cosh', [c.input(0)])),
  record('Cosh', (c) => c.builder.op('Sinh', [c.input(0)])),
  record('Asinh', (c) => inverseRoot(c, aroundSquare(c, 1, 'Add'))),
  record('Acosh', (c) => inverseRoot(c, c.builder.op('Neg', [aroundSquare(c, 1, 'Sub')]))),
  record('Atanh', (c) => c.builder.op('Reciprocal', [aroundSquare(c, 1, 'Sub')])),
];
