/** Activations with a bias, and fast variants of GELU. */
import { floatAttribute } from '../../onnx/ir.ts';
import type { LowerContext, LoweringFamily } from './lower.ts';

function withBias(c: LowerContext, x: string, bias: string | null): string {
  return bias === null ? x : c.op('Add', [x, bias]);
}

export const activationLowerings: LoweringFamily = {
  'com.microsoft.BiasGelu': (c) => [c.op('Gelu', [c.op('Add', [c.required(0), c.required(1)])])],
  'com.microsoft.FastGelu': (c) => [c.op('Gelu', [withBias(c, c.required(0), c.input(1))], { approximate: 'tanh' })],
  // x·σ(αx)
  'com.microsoft.QuickGelu': (c) => {
    const x = c.required(0);
    const alpha = c.scalar(floatAttribute(c.node, 'alpha', 1.702), x);
    return [c.op('Mul', [x, c.op('Sigmoid', [c.op('Mul', [x, alpha])])])];
  },
  // x·σ(αx), opset 24
  Swish: (c) => {
    const x = c.required(0);
    const alpha = floatAttribute(c.node, 'alpha', 1);
    const scaled = alpha === 1 ? x : c.op('Mul', [x, c.scalar(alpha, x)]);
    return [c.op('Mul', [x, c.op('Sigmoid', [scaled])])];
  },
};
