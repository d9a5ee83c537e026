/** RMS norms, norms with a residual in front, and group norm. */
import { PtunedError } from '../../errors.ts';
import { describeNode, floatAttribute, intAttribute } from '../../onnx/ir.ts';
import { scalesByGroup } from '../../ops/older.ts';
import { type LowerContext, type LoweredOp, read } from './lower.ts';

/** x·rsqrt(mean(x²) + ε)·γ over the axes from `axis` on. Returns the result and the inverse deviation. */
function rmsNorm(c: LowerContext, x: string, scale: string, epsilon: number, axis: number): [string, string] {
  const attributes = { axis, epsilon: { float: epsilon } };
  const [y, inverse] = c.builder.emit('SimplifiedLayerNormalization', [x, scale], attributes, { outputs: 2 });
  return [y!, inverse!];
}

/** input + skip (+ bias). */
function residual(c: LowerContext, bias: string | null): string {
  const sum = c.op('Add', [c.required(0), c.required(1)]);
  return bias === null ? sum : c.op('Add', [sum, bias]);
}

const epsilon = (c: LowerContext, fallback: number) => floatAttribute(c.node, 'epsilon', fallback);

/** Channels in groups: [N, groups, rest], normalized, then scaled by channel. */
function groupNorm(c: LowerContext): string[] {
  const [x, scale, bias] = [c.required(0), c.required(1), c.required(2)];
  const groups = intAttribute(c.node, 'num_groups', 1);
  const shape = c.builder.shape(x);
  const channels = shape[1];
  if (typeof channels !== 'number')
    throw new PtunedError('import_refused', `${describeNode(c.node)}: the number of channels must be known.`);
  const axes = c.ints([2]);
  const flat = c.op('Reshape', [x, c.ints([0, groups, -1])]);
  const centred = c.op('Sub', [flat, c.op('ReduceMean', [flat, axes], { keepdims: 1 })]);
  const variance = c.op('ReduceMean', [c.op('Mul', [centred, centred]), axes], { keepdims: 1 });
  const deviation = c.op('Sqrt', [c.op('Add', [variance, c.scalar(epsilon(c, 1e-5), x)])]);
  const normal = c.op('Reshape', [c.op('Div', [centred, deviation]), c.op('Shape', [x])]);
  c.builder.types.set(normal, c.builder.type(x));
  const column = c.ints([-1, ...shape.slice(2).map(() => 1)]);
  const byChannel = (value: string) => c.op('Reshape', [value, column]);
  return [c.op('Add', [c.op('Mul', [normal, byChannel(scale)]), byChannel(bias)])];
}

function skipLayerNorm(c: LowerContext): string[] {
  const sum = residual(c, c.input(4));
  const inputs = [sum, c.required(2), ...(c.input(3) === null ? [] : [c.required(3)])];
  const attributes = { axis: -1, epsilon: { float: epsilon(c, 1e-12) } };
  const [y, mean, inverse] = c.builder.emit('LayerNormalization', inputs, attributes, { outputs: 3 });
  return [y!, mean!, inverse!, sum];
}

function skipSimplified(c: LowerContext): string[] {
  const sum = residual(c, c.input(3));
  const [y, inverse] = rmsNorm(c, sum, c.required(2), epsilon(c, 1e-12), -1);
  return [y, '', inverse, sum];
}

/** Statistics are computed in float32 (1) or less. */
const statistics = { axis: read, epsilon: read, stash_type: read } as const;
const domain = 'com.microsoft';

export const normalizationLowerings: LoweredOp[] = [
  {
    name: 'RMSNormalization',
    opsets: [23],
    attributes: statistics,
    inputs: 2,
    lower: (c) => {
      const axis = intAttribute(c.node, 'axis', -1);
      return [rmsNorm(c, c.required(0), c.required(1), epsilon(c, 1e-5), axis)[0]];
    },
  },
  {
    name: 'GroupNormalization',
    opsets: [18, 21],
    older: [scalesByGroup],
    attributes: { epsilon: read, num_groups: read, stash_type: read },
    inputs: 3,
    lower: groupNorm,
  },
  {
    name: 'SkipLayerNormalization',
    domain,
    opsets: [1],
    attributes: { epsilon: read },
    inputs: 5,
    lower: skipLayerNorm,
  },
  {
    name: 'SkipSimplifiedLayerNormalization',
    domain,
    opsets: [1],
    attributes: { epsilon: read },
    inputs: 4,
    lower: skipSimplified,
  },
];
