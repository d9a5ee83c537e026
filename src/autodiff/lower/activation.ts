/** Activations with a bias, and fast variants of GELU. */
import { floatAttribute } from '../../onnx/ir.ts';
import { type LowerContext, type LoweredOp, type Lowering, read } from './lower.ts';

function withBias(c: LowerContext, x: string, bias: string | null): string {
  return bias === null ? x : c.op('Add', [x, bias]);
}

/** x·σ(αx) */
function swish(fallback: number): Lowering {
  return (c) => {
    const x = c.required(0);
    const alpha = floatAttribute(c.node, 'alpha', fallback);
    const scaled = alpha === 1 ? x : c.op('Mul', [x, c.scalar(alpha, x)]);
    return [c.op('Mul', [x, c.op('Sigmoid', [scaled])])];
  };
}

const domain = 'com.microsoft';

export const activationLowerings: LoweredOp[] = [
  {
    name: 'BiasGelu',
    domain,
    opsets: [1],
    attributes: {},
    inputs: 2,
    lower: (c) => [c.op('Gelu', [c.op('Add', [c.required(0), c.required(1)])])],
  },
  {
    name: 'FastGelu',
    domain,
    opsets: [1],
    attributes: {},
    inputs: 2,
    lower: (c) => [c.op('Gelu', [withBias(c, c.required(0), c.input(1))], { approximate: 'tanh' })],
  },
  { name: 'QuickGelu', domain, opsets: [1], attributes: { alpha: read }, inputs: 1, lower: swish(1.702) },
  { name: 'Swish', opsets: [24], attributes: { alpha: read }, inputs: 1, lower: swish(1) },
];
