/** Activations with a bias, and fast variants of GELU. */
import { floatAttribute } from '../../onnx/ir.ts';
import { type LowerContext, type LoweredOp, read } from './lower.ts';

function withBias(c: LowerContext, x: string, bias: string | null): string {
  return bias === null ? x : c.op('Add', [x, bias]);
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
  {
    name: 'Swish',
    opsets: [24],
    attributes: { alpha: read },
    inputs: 1,
    lower: (c) => [
      c.builder.op('QuickGelu', [c.required(0)], { alpha: { float: floatAttribute(c.node, 'alpha', 1) } }, { domain }),
    ],
  },
];
