/** Layers prompt encoders are made of: their parameters with PyTorch's initialisation, and their forward in ONNX ops. */
import type { GraphBuilder } from '../onnx/builder.ts';
import type { Random } from './random.ts';

export interface ParameterSpec {
  name: string;
  shape: number[];
  initialise(random: Random): Float32Array;
}

function uniform(name: string, shape: number[], bound: number): ParameterSpec {
  const count = shape.reduce((product, dim) => product * dim, 1);
  return { name, shape, initialise: (random) => random.uniform(count, bound) };
}

function zero(name: string, shape: number[]): ParameterSpec {
  return { name, shape, initialise: () => new Float32Array(shape.reduce((product, dim) => product * dim, 1)) };
}

/** torch.nn.Embedding: standard normal. */
export function embeddingParameters(name: string, rows: number, width: number): ParameterSpec[] {
  return [{ name: `${name}.weight`, shape: [rows, width], initialise: (random) => random.normal(rows * width) }];
}

/** torch.nn.Linear: weight and bias uniform in ±1/√inputs; `zeroed` starts the layer at the zero map. */
export function linearParameters(name: string, inputs: number, outputs: number, zeroed = false): ParameterSpec[] {
  const make = zeroed ? zero : uniform;
  const bound = 1 / Math.sqrt(inputs);
  return [make(`${name}.weight`, [outputs, inputs], bound), make(`${name}.bias`, [outputs], bound)];
}

/** x·Wᵀ + b on rows [n, inputs]. */
export function linear(builder: GraphBuilder, name: string, x: string): string {
  return builder.op('Add', [productT(builder, x, `${name}.weight`), `${name}.bias`]);
}

/** x·Wᵀ without a transposed copy of W. */
function productT(builder: GraphBuilder, x: string, weight: string): string {
  const attributes = { transA: 0, transB: 1, alpha: { float: 1 } };
  return builder.op('FusedMatMul', [x, weight], attributes, { domain: 'com.microsoft' });
}

const directions = ['', '_reverse'] as const;

/** torch.nn.LSTM, bidirectional: everything uniform in ±1/√hidden; gates in the order i, f, g, o. */
export function lstmParameters(name: string, layers: number, inputs: number, hidden: number): ParameterSpec[] {
  const bound = 1 / Math.sqrt(hidden);
  return Array.from({ length: layers }, (_, layer) =>
    directions.flatMap((direction) => {
      const end = `l${layer}${direction}`;
      return [
        uniform(`${name}.weight_ih_${end}`, [4 * hidden, layer === 0 ? inputs : 2 * hidden], bound),
        uniform(`${name}.weight_hh_${end}`, [4 * hidden, hidden], bound),
        uniform(`${name}.bias_ih_${end}`, [4 * hidden], bound),
        uniform(`${name}.bias_hh_${end}`, [4 * hidden], bound),
      ];
    }),
  ).flat();
}

/** Bidirectional LSTM over the rows of x [n, inputs], started at zero: [n, 2 · hidden]. */
export function lstm(
  builder: GraphBuilder,
  name: string,
  layers: number,
  n: number,
  hidden: number,
  x: string,
): string {
  let rows = x;
  for (let layer = 0; layer < layers; layer++) {
    const both = directions.map((direction) => lstmDirection(builder, name, `l${layer}${direction}`, n, hidden, rows));
    rows = builder.op('Concat', both, { axis: 1 });
  }
  return rows;
}

/**
 * One direction, unrolled: the input products of all steps are one product, the recurrence goes step by step. The state
 * of zeros before the first row adds nothing and is left out, unless that row is the only one: its recurrent weight
 * would have no gradient then, where PyTorch's is zero.
 */
function lstmDirection(builder: GraphBuilder, name: string, end: string, n: number, hidden: number, x: string): string {
  const bias = builder.op('Add', [`${name}.bias_ih_${end}`, `${name}.bias_hh_${end}`]);
  const projected = builder.op('Add', [productT(builder, x, `${name}.weight_ih_${end}`), bias]);
  const steps =
    n === 1 ? [projected] : builder.emit('Split', [projected, ones(builder, n)], { axis: 0 }, { outputs: n });
  const order = end.endsWith('_reverse') ? steps.map((_, i) => n - 1 - i) : steps.map((_, i) => i);
  const sizes = builder.constant('int64', [hidden, hidden, hidden, hidden]);
  const states: string[] = [];
  let state: { h: string; c: string } | null = null;
  for (const t of order) {
    const before = state?.h ?? (n === 1 ? zeroRow(builder, hidden) : null);
    const recurrent = before === null ? null : productT(builder, before, `${name}.weight_hh_${end}`);
    const gates = recurrent === null ? steps[t]! : builder.op('Add', [steps[t]!, recurrent]);
    const [i, f, g, o] = builder.emit('Split', [gates, sizes], { axis: 1 }, { outputs: 4 });
    const update = builder.op('Mul', [builder.op('Sigmoid', [i!]), builder.op('Tanh', [g!])]);
    const kept = state === null ? null : builder.op('Mul', [builder.op('Sigmoid', [f!]), state.c]);
    const c: string = kept === null ? update : builder.op('Add', [kept, update]);
    const h: string = builder.op('Mul', [builder.op('Sigmoid', [o!]), builder.op('Tanh', [c])]);
    states[t] = h;
    state = { h, c };
  }
  return n === 1 ? states[0]! : builder.op('Concat', states, { axis: 0 });
}

function zeroRow(builder: GraphBuilder, width: number): string {
  return builder.op('ConstantOfShape', [builder.constant('int64', [1, width])]);
}

function ones(builder: GraphBuilder, count: number): string {
  return builder.constant(
    'int64',
    Array.from({ length: count }, () => 1),
  );
}
