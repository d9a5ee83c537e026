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

/**
 * Bidirectional LSTM over the rows of x [n, inputs], started at zero: [n, 2 · hidden]. Unrolled: the input products of all
 * steps are one product a direction, the recurrence goes step by step. There both directions share every op but their
 * products, because an op on so few elements costs more to start than to run.
 */
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
    const ends = directions.map((direction) => `l${layer}${direction}`);
    const [ahead, back] = ends.map((end) => inputGates(builder, name, end, n, rows)) as [string[], string[]];
    const weights = ends.map((end) => `${name}.weight_hh_${end}`);
    // The direction back meets the rows in reverse.
    const inputs = ahead.map((gates, t) => [gates, back[n - 1 - t]!]);
    const states = recurrence(builder, weights, hidden, inputs);
    const both = [states.map(([h]) => h!), states.map(([, h]) => h!).reverse()];
    rows = builder.op(
      'Concat',
      both.map((one) => rowsOf(builder, one)),
      { axis: 1 },
    );
  }
  return rows;
}

/** What the rows of x alone give to the gates of each step of a direction: n times [1, 4 · hidden]. */
function inputGates(builder: GraphBuilder, name: string, end: string, n: number, x: string): string[] {
  const bias = builder.op('Add', [`${name}.bias_ih_${end}`, `${name}.bias_hh_${end}`]);
  const projected = builder.op('Add', [productT(builder, x, `${name}.weight_ih_${end}`), bias]);
  return split(builder, projected, 0, ones(n));
}

/**
 * Hidden states [1, hidden] of each direction after each step, from their recurrent weights and the inputs' part of the
 * gates. The state of zeros before the first step adds nothing and is left out, unless that step is the only one: its
 * recurrent weight would have no gradient then, where PyTorch's is zero.
 */
function recurrence(
  builder: GraphBuilder,
  weights: readonly string[],
  hidden: number,
  inputs: readonly string[][],
): string[][] {
  const states: string[][] = [];
  let before = inputs.length === 1 ? weights.map(() => zeroRow(builder, hidden)) : null;
  let cell: string | null = null;
  for (const given of inputs) {
    const gates = before?.map((h, i) => builder.op('Gemm', [h, weights[i]!, given[i]!], { transB: 1 })) ?? given;
    const [inputForget, update, output] = split(builder, rowsOf(builder, gates), 1, [2 * hidden, hidden, hidden]);
    const [i, f] = split(builder, builder.op('Sigmoid', [inputForget!]), 1, [hidden, hidden]);
    const fresh = builder.op('Mul', [i!, builder.op('Tanh', [update!])]);
    const kept: string | null = cell === null ? null : builder.op('Mul', [f!, cell]);
    cell = kept === null ? fresh : builder.op('Add', [kept, fresh]);
    const h = builder.op('Mul', [builder.op('Sigmoid', [output!]), builder.op('Tanh', [cell])]);
    before = split(builder, h, 0, ones(weights.length));
    states.push(before);
  }
  return states;
}

function split(builder: GraphBuilder, value: string, axis: number, sizes: number[]): string[] {
  if (sizes.length === 1) return [value];
  return builder.emit('Split', [value, builder.constant('int64', sizes)], { axis }, { outputs: sizes.length });
}

function rowsOf(builder: GraphBuilder, rows: readonly string[]): string {
  return rows.length === 1 ? rows[0]! : builder.op('Concat', rows, { axis: 0 });
}

function zeroRow(builder: GraphBuilder, width: number): string {
  return builder.op('ConstantOfShape', [builder.constant('int64', [1, width])]);
}

function ones(count: number): number[] {
  return Array.from({ length: count }, () => 1);
}
