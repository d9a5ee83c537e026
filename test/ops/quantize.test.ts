/** Straight-through gradients: those of the chain without rounding, whatever the rounding did. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { checkGraph } from '../../src/autodiff/check.ts';
import { appendGradient } from '../../src/autodiff/gradient.ts';
import { lowerNode } from '../../src/autodiff/lower/registry.ts';
import { createBuilder, emptyGraph, type GraphBuilder } from '../../src/onnx/builder.ts';
import { symbol } from '../../src/onnx/dim.ts';
import { createSession, type Feed } from '../../src/onnx/session.ts';
import { tensorOf, typeOf } from '../../src/onnx/types.ts';
import { inferNode } from '../../src/ops/registry.ts';

const [rows, inner, outer] = [4, 6, 5];
const wave = (count: number, phase: number) =>
  Float32Array.from({ length: count }, (_, i) => Math.sin(1.3 * i + phase));
const x = wave(rows * inner, 0.2);
const seed = wave(rows * outer, 1.1);

/** Weights as stored, zero point and scale of each column. */
const stored = Uint8Array.from({ length: inner * outer }, (_, i) => (i * 89 + 41) % 256);
const points = [120, 131, 100, 128, 90];
const scales = [0.01, 0.02, 0.03, 0.015, 0.005];

/** seed · Wᵀ with W[k, n] = (stored − point)·scale. */
function expected(point: (n: number) => number, scale: (n: number) => number): Float64Array {
  return Float64Array.from({ length: rows * inner }, (_, at) => {
    const [row, k] = [Math.floor(at / inner), at % inner];
    let sum = 0;
    for (let n = 0; n < outer; n++) sum += seed[row * outer + n]! * (stored[k * outer + n]! - point(n)) * scale(n);
    return sum;
  });
}

async function gradientOf(forward: (builder: GraphBuilder, x: string) => string) {
  const builder = createBuilder(emptyGraph('case'), inferNode);
  const dims = [symbol('rows'), inner];
  const result = forward(builder, builder.input('x', typeOf('float32', dims)));
  const dy = builder.input('seed', typeOf('float32', [dims[0]!, outer]));
  const gradient = appendGradient(builder, { seeds: new Map([[result, dy]]), wrt: ['x'] }).get('x')!;
  const { graph } = builder;
  const made = graph.nodes.flatMap((node) => node.outputs);
  graph.outputs = made.map((name) => ({ name, dtype: builder.type(name).dtype, shape: null }));
  checkGraph(graph, 'building the case');
  const opsets = new Map([
    ['', 21],
    ['com.microsoft', 1],
  ]);
  const model = { irVersion: 10, producer: 'test', opsets, functions: [], graph };
  const session = await createSession(model, { threads: 1, device: 'cpu' });
  const results = await session.run({ x: feed(x, inner), seed: feed(seed, outer) });
  await session.close();
  for (const name of made) {
    const [type, found] = [builder.type(name), results[name]!];
    assert.equal(found.dtype, type.dtype, name);
    assert.equal(found.dims.length, type.shape?.length, name);
  }
  return { gradient: results[gradient]!.data as Float32Array, result: results[result]!.data as Float32Array };
}

const feed = (data: Float32Array, width: number): Feed => ({ dtype: 'float32', dims: [rows, width], data });

function weights(builder: GraphBuilder): string {
  return builder.initializer('weight', { dtype: 'uint8', dims: [inner, outer], data: stored });
}

function bytes(builder: GraphBuilder, values: number[], dims = [values.length]): string {
  return builder.initializer('points', { dtype: 'uint8', dims, data: Uint8Array.from(values) });
}

/** Weights as floats; `whole`: not through DequantizeLinear, whose fused product takes no scale a column of its input. */
function floatWeights(builder: GraphBuilder, whole: boolean): string {
  const scale = builder.constant('float32', scales);
  if (!whole) return builder.op('DequantizeLinear', [weights(builder), scale, bytes(builder, points)], { axis: 1 });
  const values = [...stored].map((one, i) => (one - points[i % outer]!) * scales[i % outer]!);
  return builder.initializer('weight', tensorOf('float32', [inner, outer], values));
}

function assertClose(found: Float32Array, wanted: Float64Array, tolerance: number): void {
  const size = Math.max(...wanted.map(Math.abs));
  assert.equal(found.length, wanted.length);
  for (const [i, value] of wanted.entries())
    assert.ok(Math.abs(found[i]! - value) <= tolerance * size, `[${i}] is ${found[i]}, ${value} expected`);
}

/** As quantize_dynamic writes it; `move` puts ops between rounding and product. */
function dynamicChain(zero: number[], dims: number[], scale: number[], move = (_: GraphBuilder, y: string) => y) {
  return (builder: GraphBuilder, value: string): string => {
    const [y, step, point] = builder.emit('DynamicQuantizeLinear', [value], {}, { outputs: 3 });
    const inputs = [move(builder, y!), weights(builder), point!, bytes(builder, zero, dims)];
    const product = builder.op('Cast', [builder.op('MatMulInteger', inputs)], { to: 1 });
    const factor = builder.op('Mul', [step!, builder.constant('float32', scale.length === 1 ? scale[0]! : scale)]);
    return builder.op('Mul', [product, factor]);
  };
}

test('dynamic rounding, weights by column', async () => {
  const { gradient } = await gradientOf(dynamicChain(points, [outer], scales));
  assertClose(gradient, expected((n) => points[n]!, (n) => scales[n]!), 1e-5); // biome-ignore format: one line
});

test('dynamic rounding, one scale for the weights', async () => {
  const { gradient } = await gradientOf(dynamicChain([120], [], [0.02]));
  assertClose(gradient, expected(() => 120, () => 0.02), 1e-5); // biome-ignore format: one line
});

test('the gradient stays with rounded values that are moved', async () => {
  const move = (builder: GraphBuilder, y: string) => {
    const turned = builder.op('Transpose', [y], { perm: [1, 0] });
    const column = builder.op('Reshape', [turned, builder.constant('int64', [inner, -1, 1])]);
    const flat = builder.op('Reshape', [column, builder.constant('int64', [inner, -1])]);
    return builder.op('Transpose', [flat], { perm: [1, 0] });
  };
  const { gradient } = await gradientOf(dynamicChain(points, [outer], scales, move));
  assertClose(gradient, expected((n) => points[n]!, (n) => scales[n]!), 1e-5); // biome-ignore format: one line
});

for (const [name, count] of [['one scale', 1], ['a scale a column', inner]] as const) {
  test(`fixed rounding, ${name}`, async () => {
    const steps = Array.from({ length: count }, (_, i) => 0.01 + 0.002 * i);
    const { gradient, result } = await gradientOf((builder, value) => {
      const step = builder.constant('float32', count === 1 ? steps[0]! : steps);
      const zero = bytes(builder, Array(count).fill(128), count === 1 ? [] : [count]);
      const axis = count === 1 ? {} : { axis: 1 };
      const y = builder.op('QuantizeLinear', [value, step, zero], axis);
      const again = builder.op('DequantizeLinear', [y, step, zero], axis);
      return builder.op('MatMul', [again, floatWeights(builder, count > 1)]);
    });
    assert.ok(result.some((one) => one !== 0));
    assertClose(gradient, expected((n) => points[n]!, (n) => scales[n]!), 1e-5); // biome-ignore format: one line
  });
} // biome-ignore format: a table

/** A fused op in primitives, as it is differentiated. */
function lowered(builder: GraphBuilder, op: string, inputs: string[], domain = 'com.microsoft'): string {
  return lowerNode(builder, { op, domain, name: op, inputs, outputs: [op], attributes: new Map() })[0]!;
}

/** The input in integers of fixed scale. */
function quantized(builder: GraphBuilder, value: string): [value: string, scale: string, point: string] {
  const [step, point] = [builder.constant('float32', 0.02), bytes(builder, [128], [])];
  return [builder.op('QuantizeLinear', [value, step, point]), step, point];
}

/** The weights with scale and zero point of each column. */
function columnWeights(builder: GraphBuilder): [value: string, scale: string, point: string] {
  return [weights(builder), builder.constant('float32', scales), bytes(builder, points)];
}

const fusedProducts: [string, (builder: GraphBuilder, value: string) => string][] = [
  ['DynamicQuantizeMatMul', (b, value) => lowered(b, 'DynamicQuantizeMatMul', [value, ...columnWeights(b)])],
  [
    'MatMulIntegerToFloat',
    (b, value) => {
      const [a, aScale, aPoint] = quantized(b, value);
      const [w, wScale, wPoint] = columnWeights(b);
      return lowered(b, 'MatMulIntegerToFloat', [a, w, aScale, wScale, aPoint, wPoint]);
    },
  ],
  ['QGemm', (b, value) => lowered(b, 'QGemm', [...quantized(b, value), ...columnWeights(b)])],
  [
    'QLinearMatMul',
    (b, value) => {
      const into = [b.constant('float32', 0.3), bytes(b, [120], [])];
      const y = lowered(b, 'QLinearMatMul', [...quantized(b, value), ...columnWeights(b), ...into], '');
      return b.op('DequantizeLinear', [y, ...into]);
    },
  ],
  [
    'QLinearAdd',
    (b, value) => {
      const [one, into] = [quantized(b, value), [b.constant('float32', 0.05), bytes(b, [120], [])]];
      const sum = b.op('DequantizeLinear', [lowered(b, 'QLinearAdd', [...one, ...one, ...into]), ...into]);
      return b.op('MatMul', [b.op('Mul', [sum, b.constant('float32', 0.5)]), floatWeights(b, true)]);
    },
  ],
];

for (const [name, forward] of fusedProducts) {
  test(`${name}: straight through, lowered`, async () => {
    const { gradient } = await gradientOf(forward);
    assertClose(gradient, expected((n) => points[n]!, (n) => scales[n]!), 1e-5); // biome-ignore format: one line
  });
}
