import assert from 'node:assert/strict';
import { test } from 'node:test';
import { checkGraph } from '../../src/autodiff/check.ts';
import { appendGradient } from '../../src/autodiff/gradient.ts';
import { prune } from '../../src/autodiff/prune.ts';
import type { PtunedError } from '../../src/errors.ts';
import { createBuilder, emptyGraph, type GraphBuilder } from '../../src/onnx/builder.ts';
import { type Dim, symbol } from '../../src/onnx/dim.ts';
import { attributesOf, type Node } from '../../src/onnx/ir.ts';
import { createSession, type Feed } from '../../src/onnx/session.ts';
import { tensorOf, typeOf } from '../../src/onnx/types.ts';
import { refusedOps } from '../../src/ops/refused.ts';
import { inferNode } from '../../src/ops/registry.ts';

function start(inputs: Record<string, Dim[]>): GraphBuilder {
  const builder = createBuilder(emptyGraph('g'), inferNode);
  for (const [name, shape] of Object.entries(inputs)) builder.input(name, typeOf('float32', shape));
  return builder;
}

/** d(Σ value)/dwrt. */
function differentiate(builder: GraphBuilder, value: string, wrt: string[]): Map<string, string> {
  const seed = builder.op('Expand', [builder.constant('float32', 1), builder.op('Shape', [value])]);
  builder.types.set(seed, builder.type(value));
  const gradients = appendGradient(builder, { seeds: new Map([[value, seed]]), wrt });
  for (const name of gradients.values()) builder.output(name);
  prune(builder.graph);
  checkGraph(builder.graph, 'test');
  return gradients;
}

async function run(builder: GraphBuilder, feeds: Record<string, [dims: number[], values: number[]]>) {
  const opsets = new Map([
    ['', 21],
    ['com.microsoft', 1],
  ]);
  const model = { irVersion: 10, producer: '', opsets, graph: builder.graph, functions: [] };
  const session = await createSession(model, { threads: 1, device: 'cpu' });
  const all: Record<string, Feed> = {};
  for (const name of session.inputs) {
    const [dims, values] = feeds[name]!;
    all[name] = { dtype: 'float32', dims, data: Float32Array.from(values) };
  }
  const results = await session.run(all);
  await session.close();
  return results;
}

test('contributions of all readers add up; one value twice in one op counts twice', async () => {
  const builder = start({ x: [3] });
  const square = builder.op('Mul', ['x', 'x']);
  const gradients = differentiate(builder, builder.op('Add', [builder.op('Mul', [square, 'x']), 'x']), ['x']);
  const results = await run(builder, { x: [[3], [1, 2, -3]] });
  // d(x³ + x) = 3x² + 1
  assert.deepEqual([...(results[gradients.get('x')!]!.data as Float32Array)], [4, 13, 28]);
});

test('outputs that nothing reads count as zeros', async () => {
  const builder = start({ x: [4] });
  const parts = builder.emit('Split', ['x', builder.constant('int64', [1, 2, 1])], { axis: 0 }, { outputs: 3 });
  const gradients = differentiate(builder, builder.op('Mul', [parts[1]!, parts[1]!]), ['x']);
  const results = await run(builder, { x: [[4], [5, 1, 2, 7]] });
  assert.deepEqual([...(results[gradients.get('x')!]!.data as Float32Array)], [0, 2, 4, 0]);
});

test('nothing off the path from the wanted values is differentiated', () => {
  const builder = start({ x: [3], other: [3] });
  const constant = builder.op('Exp', ['other']);
  differentiate(builder, builder.op('Mul', ['x', constant]), ['x']);
  const count = (op: string) => builder.graph.nodes.filter((node) => node.op === op).length;
  // No gradient of Exp; the forward product (asked for its shape) and its seed times the constant.
  assert.deepEqual([count('Exp'), count('Mul')], [1, 2]);
});

test('outer products of an unrolled recurrence become one product of stacked rows', async () => {
  const n = 4;
  const builder = start({ w: [2, 2], x: [n, 2] });
  const rows = builder.emit('Split', ['x', builder.constant('int64', [1, 1, 1, 1])], { axis: 0 }, { outputs: n });
  let h = rows[0]!;
  for (const row of rows.slice(1)) h = builder.op('Add', [row, builder.op('MatMul', [h, 'w'])]);
  const gradients = differentiate(builder, h, ['w']);
  const weightGradient = builder.graph.nodes.find((node) => node.outputs[0] === gradients.get('w'))!;
  assert.deepEqual(
    [weightGradient.op, builder.type(weightGradient.inputs[0]!).shape],
    ['FusedMatMul', [n - 1, 2]],
    'three steps, one product',
  );
  const feeds = { w: [[2, 2], [0.5, -1, 0.25, 2]], x: [[n, 2], [1, 2, -1, 0.5, 3, 1, 0, 2]] } as const; // biome-ignore format: matrices
  const found = [...((await run(builder, mutable(feeds)))[gradients.get('w')!]!.data as Float32Array)];
  const expected = numeric(feeds.w[1], (w) => unrolled(w, feeds.x[1]));
  for (const [i, value] of expected.entries()) assert.ok(Math.abs(found[i]! - value) < 1e-4, `${found} ${expected}`);
});

function mutable(feeds: Record<string, readonly [readonly number[], readonly number[]]>) {
  return Object.fromEntries(
    Object.entries(feeds).map(([key, [dims, values]]) => [key, [[...dims], [...values]] as [number[], number[]]]),
  );
}

function unrolled(w: readonly number[], x: readonly number[]): number {
  let h = [x[0]!, x[1]!];
  for (let t = 1; t < x.length / 2; t++)
    h = [x[2 * t]! + h[0]! * w[0]! + h[1]! * w[2]!, x[2 * t + 1]! + h[0]! * w[1]! + h[1]! * w[3]!];
  return h[0]! + h[1]!;
}

function numeric(at: readonly number[], f: (x: readonly number[]) => number): number[] {
  const step = 1e-5;
  const moved = (i: number, by: number) => f(at.map((value, k) => (k === i ? value + by : value)));
  return at.map((_, i) => (moved(i, step) - moved(i, -step)) / (2 * step));
}

function appendForeign(builder: GraphBuilder, op: string, domain = ''): void {
  const node: Node = { op, domain, name: 'layer/7', inputs: ['x'], outputs: ['y'], attributes: attributesOf({}) };
  builder.append(node);
  builder.types.set('y', typeOf('float32', [3]));
}

test('an op without a rule on the path is refused by name; off the path it does not matter', () => {
  const builder = start({ x: [3] });
  appendForeign(builder, 'NoSuchOp', 'vendor');
  assert.throws(
    () => differentiate(builder, builder.op('Exp', ['y']), ['x']),
    (error: PtunedError) => error.code === 'unsupported_op' && /vendor\.NoSuchOp "layer\/7"/.test(error.message),
  );
  const aside = start({ x: [3], z: [3] });
  appendForeign(aside, 'NoSuchOp');
  assert.doesNotThrow(() => differentiate(aside, aside.op('Mul', ['y', 'z']), ['z']));
});

test('a value that the output does not depend on is refused', () => {
  const builder = start({ x: [3], z: [3] });
  const y = builder.op('Mul', ['x', builder.op('Cast', [builder.op('Greater', ['z', 'x'])], { to: 1 })]);
  assert.throws(
    () => differentiate(builder, y, ['z']),
    (error: PtunedError) => error.code === 'import_refused' && error.message.includes('"z"'),
  );
});

test('symbolic shapes: one graph serves several sizes', async () => {
  const [b, s] = [symbol('batch'), symbol('sequence')];
  const builder = start({ x: [b, s, 2], bias: [s, 2] });
  const y = builder.op('Softmax', [builder.op('Add', ['x', 'bias'])], { axis: 1 });
  const gradients = differentiate(builder, builder.op('Mul', [y, 'x']), ['bias']);
  for (const [rows, length] of [
    [1, 1],
    [2, 3],
    [3, 5],
  ] as const) {
    const x = Array.from({ length: rows * length * 2 }, (_, i) => Math.sin(i));
    const bias = Array.from({ length: length * 2 }, (_, i) => Math.cos(i));
    const results = await run(builder, { x: [[rows, length, 2], x], bias: [[length, 2], bias] });
    const found = results[gradients.get('bias')!]!;
    const expected = numeric(bias, (at) => softmaxTimes(x, at, rows, length));
    assert.deepEqual([...found.dims], [length, 2]);
    for (const [i, value] of expected.entries()) assert.ok(Math.abs((found.data[i] as number) - value) < 1e-5);
  }
});

function softmaxTimes(x: readonly number[], bias: readonly number[], rows: number, length: number): number {
  let total = 0;
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < 2; column++) {
      const at = (t: number) => x[(row * length + t) * 2 + column]!;
      const powers = Array.from({ length }, (_, t) => Math.exp(at(t) + bias[t * 2 + column]!));
      const sum = powers.reduce((a, b) => a + b);
      total += powers.reduce((a, power, t) => a + (power / sum) * at(t), 0);
    }
  }
  return total;
}

/** Exports write -inf masks, softmax, then Where(IsNaN(p), 0, p). */
test('a fully masked row behind a NaN guard gets gradient 0 instead of NaN', async () => {
  const builder = start({ x: [2, 3], mask: [2, 3], v: [3, 2] });
  const p = builder.op('Softmax', [builder.op('Add', ['x', 'mask'])]);
  const guarded = builder.op('Where', [builder.op('IsNaN', [p]), builder.constant('float32', 0), p]);
  const gradients = differentiate(builder, builder.op('MatMul', [guarded, 'v']), ['x', 'v']);
  const results = await run(builder, {
    x: [[2, 3], [1, 2, 3, 0.5, 0.1, -1]],
    mask: [[2, 3], [-Infinity, -Infinity, -Infinity, 0, 0, -Infinity]],
    v: [[3, 2], [1, 0, 2, 1, 5, 3]],
  }); // biome-ignore format: matrices
  const [dx, dv] = ['x', 'v'].map((name) => [...(results[gradients.get(name)!]!.data as Float32Array)]);
  assert.ok([...dx!, ...dv!].every(Number.isFinite));
  assert.deepEqual(dx!.slice(0, 3), [0, 0, 0]);
  assert.ok(dx![3] !== 0 && dx![4] !== 0);
  assert.equal(dx![5], 0);
});

/** A variant that a rule does not cover must never give a gradient that is merely wrong. */
const uncovered: [string, Partial<Node>, Dim[], number][] = [
  ['ScatterND', { attributes: attributesOf({ reduction: 'median' }), inputs: ['x', 'index', 'update'] }, [4], 1],
  [
    'Conv',
    { attributes: attributesOf({ auto_pad: 'SAME_UPPER', strides: [2] }), inputs: ['x', 'kernel'] },
    [1, 1, symbol('length')],
    1,
  ],
];

for (const [op, rest, shape, outputs] of uncovered) {
  test(`${op} in a variant without a rule is refused by name`, () => {
    const builder = start({ x: shape });
    const constants = { update: [1, 2] };
    for (const [name, values] of Object.entries(constants)) {
      builder.graph.initializers.set(name, tensorOf('float32', [2], values));
      builder.types.set(name, typeOf('float32', [2]));
    }
    builder.graph.initializers.set('kernel', tensorOf('float32', [1, 1, 2], [1, 2]));
    builder.types.set('kernel', typeOf('float32', [1, 1, 2]));
    builder.graph.initializers.set('index', tensorOf('int64', [2, 1], [0, 2]));
    builder.types.set('index', typeOf('int64', [2, 1]));
    const names = Array.from({ length: outputs }, (_, i) => `y${i}`);
    builder.append({ op, domain: '', name: 'odd', inputs: [], outputs: names, attributes: new Map(), ...rest });
    assert.throws(
      () => differentiate(builder, names.at(-1)!, ['x']),
      (error: PtunedError) => error.code === 'unsupported_op' && error.message.includes(`${op} "odd"`),
    );
  });
}

test('an op that its record refuses is refused with the reason', () => {
  for (const { name, domain = '', vjp } of refusedOps) {
    const builder = start({ x: [2, 3] });
    builder.append({ op: name, domain, name: 'odd', inputs: ['x'], outputs: ['y'], attributes: new Map() });
    assert.ok('missing' in vjp);
    assert.throws(
      () => differentiate(builder, 'y', ['x']),
      (error: PtunedError) =>
        error.code === 'unsupported_op' &&
        error.message.endsWith(`${name} "odd" has no gradient rule: ${vjp.missing}.`),
      name,
    );
  }
});
