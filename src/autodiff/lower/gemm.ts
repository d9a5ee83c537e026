/** com.microsoft.FusedGemm: a product and the activation behind it. */
import { type AttributeInit, floatAttribute, intAttribute, stringAttribute } from '../../onnx/ir.ts';
import { unsupported } from '../../ops/shared.ts';
import { type LowerContext, type LoweredOp, read } from './lower.ts';

/** Activations that the runtime fuses, with the attributes that they may have. */
const activations: Readonly<Record<string, readonly string[]>> = {
  Elu: ['alpha'],
  HardSigmoid: ['alpha', 'beta'],
  LeakyRelu: ['alpha'],
  Relu: [],
  Selu: ['alpha', 'gamma'],
  Sigmoid: [],
  Softplus: [],
  Softsign: [],
  Tanh: [],
  ThresholdedRelu: ['alpha'],
};

function fusedGemm(c: LowerContext): string[] {
  const inputs = c.node.inputs.filter((name) => name !== '');
  const product = c.op('Gemm', inputs, {
    alpha: { float: floatAttribute(c.node, 'alpha', 1) },
    beta: { float: floatAttribute(c.node, 'beta', 1) },
    transA: intAttribute(c.node, 'transA', 0),
    transB: intAttribute(c.node, 'transB', 0),
  });
  const activation = stringAttribute(c.node, 'activation', '');
  if (activation === '') return [product];
  const names = activations[activation];
  if (names === undefined)
    throw unsupported(
      c.node,
      `has the activation ${activation}; ${Object.keys(activations).join(', ')} have a gradient`,
    );
  const settings = names.flatMap((name): [string, AttributeInit][] => {
    const set = c.node.attributes.get(`activation_${name}`);
    return set?.kind === 'float' ? [[name, { float: set.value }]] : [];
  });
  return [c.op(activation, [product], Object.fromEntries(settings))];
}

export const gemmLowerings: LoweredOp[] = [
  {
    name: 'FusedGemm',
    domain: 'com.microsoft',
    opsets: [1],
    attributes: {
      activation: read,
      activation_alpha: read,
      activation_beta: read,
      activation_gamma: read,
      alpha: read,
      beta: read,
      transA: read,
      transB: read,
    },
    inputs: 3,
    lower: fusedGemm,
  },
];
