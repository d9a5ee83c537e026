/** Norms of channels, of any axes, and pools over a whole area. */
import { floatAttribute, intsAttribute } from '../../onnx/ir.ts';
import { type LowerContext, type LoweredOp, read } from './lower.ts';

/** Axes behind batch and channels. */
function areaOf(c: LowerContext, x: string): number[] {
  return c.builder.shape(x).slice(2).map((_, i) => i + 2); // biome-ignore format: short
}

/** A value for each channel, [C], beside [N, C, …]. */
function byChannel(c: LowerContext, value: string, area: readonly number[]): string {
  return c.op('Reshape', [value, c.ints([-1, ...area.map(() => 1)])]);
}

/** x − mean over the axes, and the mean of its square. */
function centredOver(c: LowerContext, x: string, axes: readonly number[]): { centred: string; variance: string } {
  const mean = (value: string) => c.op('ReduceMean', [value, c.ints([...axes])], { keepdims: 1 });
  const centred = c.op('Sub', [x, mean(x)]);
  return { centred, variance: mean(c.op('Mul', [centred, centred])) };
}

function deviation(c: LowerContext, variance: string): string {
  const epsilon = c.scalar(floatAttribute(c.node, 'epsilon', 1e-5), variance);
  return c.op('Sqrt', [c.op('Add', [variance, epsilon])]);
}

function instanceNorm(c: LowerContext): string[] {
  const x = c.required(0);
  const area = areaOf(c, x);
  const { centred, variance } = centredOver(c, x, area);
  const normal = c.op('Div', [centred, deviation(c, variance)]);
  const [scale, bias] = [1, 2].map((i) => byChannel(c, c.required(i), area)) as [string, string];
  return [c.op('Add', [c.op('Mul', [normal, scale]), bias])];
}

/** With the mean and variance that the file has: a frozen LM gathers none. */
function batchNorm(c: LowerContext): string[] {
  const x = c.required(0);
  const area = areaOf(c, x);
  const [scale, bias, mean, variance] = [1, 2, 3, 4].map((i) => byChannel(c, c.required(i), area)) as [
    string,
    string,
    string,
    string,
  ];
  const normal = c.op('Div', [c.op('Sub', [x, mean]), deviation(c, variance)]);
  return [c.op('Add', [c.op('Mul', [normal, scale]), bias])];
}

function meanVarianceNorm(c: LowerContext): string[] {
  const x = c.required(0);
  const { centred, variance } = centredOver(c, x, intsAttribute(c.node, 'axes') ?? [0, 2, 3]);
  return [c.op('Div', [centred, c.op('Add', [c.op('Sqrt', [variance]), c.scalar(1e-9, x)])])];
}

function globalPool(op: string) {
  return (c: LowerContext) => [c.op(op, [c.required(0), c.ints(areaOf(c, c.required(0)))], { keepdims: 1 })];
}

export const channelLowerings: LoweredOp[] = [
  {
    name: 'InstanceNormalization',
    opsets: [11, 22],
    attributes: { epsilon: read },
    inputs: 3,
    lower: instanceNorm,
  },
  {
    name: 'BatchNormalization',
    opsets: [11, 14, 15],
    // The momentum is for statistics that are gathered.
    attributes: { epsilon: read, momentum: read, training_mode: { only: 0 } },
    inputs: 5,
    lower: batchNorm,
  },
  {
    name: 'MeanVarianceNormalization',
    opsets: [11, 13],
    attributes: { axes: read },
    inputs: 1,
    lower: meanVarianceNorm,
  },
  { name: 'GlobalAveragePool', opsets: [11, 22], attributes: {}, inputs: 1, lower: globalPool('ReduceMean') },
  { name: 'GlobalMaxPool', opsets: [11, 22], attributes: {}, inputs: 1, lower: globalPool('ReduceMax') },
];
