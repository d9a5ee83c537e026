/** Written-out ops are found in all their spellings, compute what they did, and have the gradient they had. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { checkGraph } from '../../src/autodiff/check.ts';
import { appendGradient } from '../../src/autodiff/gradient.ts';
import { prune } from '../../src/autodiff/prune.ts';
import { raiseOps } from '../../src/autodiff/raise/raise.ts';
import { createBuilder, emptyGraph, type GraphBuilder } from '../../src/onnx/builder.ts';
import { type Dim, symbol } from '../../src/onnx/dim.ts';
import type { Feed } from '../../src/onnx/session.ts';
import { tensorOf, typeOf } from '../../src/onnx/types.ts';
import { inferNode } from '../../src/ops/registry.ts';
import { runGraph } from '../support/run-graph.ts';

type Emit = (b: GraphBuilder) => string;

/** Inputs of every graph; only those that it reads are fed. */
const [rows, length] = [symbol('rows'), symbol('length')];
const inputs: Record<string, { shape: Dim[]; dims: number[]; scale: number }> = {
  x: { shape: [rows, 4, length, 8], dims: [2, 4, 3, 8], scale: 1 },
  wide: { shape: [rows, 4, length, 8], dims: [2, 4, 3, 8], scale: 4 },
  angles: { shape: [rows, length, 4], dims: [2, 3, 4], scale: 2 },
  shared: { shape: [1, length, 4], dims: [1, 3, 4], scale: 2 },
  scores: { shape: [rows, 4, length, length], dims: [2, 4, 3, 3], scale: 2 },
  values: { shape: [rows, 4, length, 8], dims: [2, 4, 3, 8], scale: 1 },
};

/** −∞ where a query may not see a key; the second row's first query sees none. */
const mask = [0, -Infinity, -Infinity, 0, 0, -Infinity, 0, 0, 0].concat([
  -Infinity,
  -Infinity,
  -Infinity,
  -Infinity,
  0,
  -Infinity,
  -Infinity,
  0,
  0,
]);

/** Σ of a bumpy weighting of y, and its gradients with respect to `wrt`; ops of the graph after the pass. */
async function run(emit: Emit, wrt: string[], raise: boolean, blindRows: 'zero' | 'any' = 'zero') {
  const b = createBuilder(emptyGraph('g'), inferNode);
  for (const [name, { shape }] of Object.entries(inputs)) b.input(name, typeOf('float32', shape));
  b.input('mask', typeOf('float32', [rows, 1, length, length]));
  const y = emit(b);
  if (raise) raiseOps(b, { blindRows });
  b.graph.outputs = [{ name: y, dtype: 'float32', shape: b.shape(y) }];
  prune(b.graph);
  const ops = b.graph.nodes.map(({ op }) => op);
  const seed = b.op('Cos', [y]);
  const gradients = appendGradient(b, { seeds: new Map([[y, seed]]), wrt });
  for (const name of gradients.values()) b.output(name);
  prune(b.graph);
  checkGraph(b.graph, 'test');
  const results = await runGraph(b.graph, feedOf);
  return { ops, results: [y, ...gradients.values()].map((name) => results[name]!.data as Float32Array) };
}

function feedOf(name: string): Feed {
  if (name === 'mask') return { dtype: 'float32', dims: [2, 1, 3, 3], data: Float32Array.from(mask) };
  const { dims, scale } = inputs[name]!;
  const count = dims.reduce((product, dim) => product * dim, 1);
  return {
    dtype: 'float32',
    dims,
    data: Float32Array.from({ length: count }, (_, i) => scale * Math.sin(1.7 * i + 0.3)),
  };
}

async function raised(emit: Emit, wrt: string[], op: string): Promise<void> {
  const [before, after] = [await run(emit, wrt, false), await run(emit, wrt, true)];
  assert.ok(!before.ops.includes(op) && after.ops.includes(op), after.ops.join(' '));
  for (const [k, wanted] of before.results.entries()) {
    const found = after.results[k]!;
    const size = Math.max(...wanted.map(Math.abs));
    assert.ok(size > 0.01 && Number.isFinite(size));
    const error = Math.max(...wanted.map((value, i) => Math.abs(value - found[i]!))) / size;
    assert.ok(error < 3e-6, `${op}: output ${k} differs by ${error}`);
  }
}

async function leftAlone(emit: Emit, wrt: string[], op: string): Promise<void> {
  assert.ok(!(await run(emit, wrt, true)).ops.includes(op));
}

const number = (b: GraphBuilder, value: number) => b.constant('float32', value);
const times = (b: GraphBuilder, x: string, value: number) => b.op('Mul', [x, number(b, value)]);

const geluByErf: Record<string, Emit> = {
  'x/√2, product by 0.5 last': (b) => {
    const erf = b.op('Erf', [b.op('Div', ['wide', number(b, Math.SQRT2)])]);
    return times(b, b.op('Mul', ['wide', b.op('Add', [erf, number(b, 1)])]), 0.5);
  },
  'half of x first': (b) => {
    const erf = b.op('Erf', [times(b, 'wide', Math.SQRT1_2)]);
    return b.op('Mul', [times(b, 'wide', 0.5), b.op('Add', [number(b, 1), erf])]);
  },
};

const geluByTanh: Record<string, Emit> = {
  'gelu_new, a power': (b) => {
    const cube = times(b, b.op('Pow', ['wide', number(b, 3)]), 0.044715);
    const tanh = b.op('Tanh', [times(b, b.op('Add', ['wide', cube]), Math.sqrt(2 / Math.PI))]);
    return b.op('Mul', [times(b, 'wide', 0.5), b.op('Add', [tanh, number(b, 1)])]);
  },
  'gelu_fast, products': (b) => {
    const slope = b.op('Add', [times(b, b.op('Mul', ['wide', 'wide']), 0.044715), number(b, 1)]);
    const tanh = b.op('Tanh', [b.op('Mul', [times(b, 'wide', 0.7978845608), slope])]);
    return b.op('Mul', [times(b, 'wide', 0.5), b.op('Add', [number(b, 1), tanh])]);
  },
};

const silu: Emit = (b) => b.op('Mul', ['wide', b.op('Sigmoid', ['wide'])]);

for (const [name, emit] of Object.entries({ ...geluByErf, ...geluByTanh }))
  test(`GELU: ${name}`, () => raised(emit, ['wide'], 'Gelu'));

test('erf and tanh are told apart', async () => {
  const approximations = (emit: Emit) => {
    const b = createBuilder(emptyGraph('g'), inferNode);
    b.input('wide', typeOf('float32', [3, 4]));
    emit(b);
    raiseOps(b);
    const { attributes } = b.graph.nodes.find(({ op }) => op === 'Gelu')!;
    return attributes.get('approximate');
  };
  for (const emit of Object.values(geluByErf)) assert.equal(approximations(emit), undefined);
  for (const emit of Object.values(geluByTanh))
    assert.deepEqual(approximations(emit), { kind: 'string', value: 'tanh' });
});

test('SiLU, and the GELU of x·σ(1.702x)', async () => {
  await raised(silu, ['wide'], 'QuickGelu');
  await raised((b) => b.op('Mul', [b.op('Sigmoid', [times(b, 'wide', 1.702)]), 'wide']), ['wide'], 'QuickGelu');
});

test('what only looks like an activation stays', async () => {
  await leftAlone((b) => b.op('Mul', ['wide', b.op('Sigmoid', ['x'])]), ['wide', 'x'], 'QuickGelu');
  await leftAlone((b) => b.op('Mul', ['wide', b.op('Sigmoid', [times(b, 'wide', 1.5)])]), ['wide'], 'QuickGelu');
  const half = (b: GraphBuilder) => {
    const erf = b.op('Erf', [b.op('Div', ['wide', number(b, 1.5)])]);
    return times(b, b.op('Mul', ['wide', b.op('Add', [erf, number(b, 1)])]), 0.5);
  };
  await leftAlone(half, ['wide'], 'Gelu');
});

const gamma = (b: GraphBuilder) =>
  b.initializer('gamma', tensorOf('float32', [8], [1, 0.5, -1, 2, 0.1, 1.5, 0.7, -0.3]));

/** γ·x/√(mean x² + ε), with the square and the root as given. */
function norm(square: (b: GraphBuilder) => string, scaled: (b: GraphBuilder, root: string) => string, axis = -1): Emit {
  return (b) => {
    const mean = b.op('ReduceMean', [square(b), b.constant('int64', [axis])], { keepdims: 1 });
    const root = b.op('Sqrt', [b.op('Add', [mean, number(b, 1e-6)])]);
    return b.op('Mul', [scaled(b, root), gamma(b)]);
  };
}
const power = (b: GraphBuilder) => b.op('Pow', ['x', number(b, 2)]);
const product = (b: GraphBuilder) => b.op('Mul', ['x', 'x']);
const byReciprocal = (b: GraphBuilder, root: string) => b.op('Mul', ['x', b.op('Reciprocal', [root])]);
const byInverse = (b: GraphBuilder, root: string) => b.op('Mul', [b.op('Div', [number(b, 1), root]), 'x']);
const byRoot = (b: GraphBuilder, root: string) => b.op('Div', ['x', root]);

test('RMS norm: squares, roots and products as exporters write them', async () => {
  for (const square of [power, product]) {
    for (const scaled of [byReciprocal, byInverse, byRoot])
      await raised(norm(square, scaled), ['x'], 'SimplifiedLayerNormalization');
  }
  await raised(norm(power, byRoot, 3), ['x'], 'SimplifiedLayerNormalization');
});

test('a norm over another axis, or of another value, is none', async () => {
  await leftAlone(norm(power, byRoot, 2), ['x'], 'SimplifiedLayerNormalization');
  await leftAlone(
    norm(power, (b, root) => b.op('Div', ['wide', root])),
    ['x'],
    'SimplifiedLayerNormalization',
  );
});

const last = (b: GraphBuilder, x: string, from: number, to: number) =>
  b.op('Slice', [x, ...[[from], [to], [3], [1]].map((value) => b.constant('int64', value))]);

/** As transformers writes it: angles twice side by side, their cosines and sines under an axis for the heads. */
function rotary(angles: string, turn: (b: GraphBuilder) => string, scaling = 1): Emit {
  return (b) => {
    const twice = b.op('Concat', [angles, angles], { axis: -1 });
    const [cos, sin] = ['Cos', 'Sin'].map((op) => {
      const value = b.op(op, [twice]);
      return b.op('Unsqueeze', [scaling === 1 ? value : times(b, value, scaling), b.constant('int64', [1])]);
    });
    return b.op('Add', [b.op('Mul', ['x', cos!]), b.op('Mul', [turn(b), sin!])]);
  };
}
const bySlices = (b: GraphBuilder) =>
  b.op('Concat', [b.op('Neg', [last(b, 'x', 4, 2 ** 31)]), last(b, 'x', 0, 4)], { axis: -1 });
const bySplit = (b: GraphBuilder) => {
  const [first, second] = b.emit('Split', ['x', b.constant('int64', [4, 4])], { axis: -1 }, { outputs: 2 });
  return b.op('Concat', [b.op('Neg', [second!]), first!], { axis: 3 });
};

test('rotary embeddings, with angles of each row and with one for all', async () => {
  for (const turn of [bySlices, bySplit]) {
    await raised(rotary('angles', turn), ['x'], 'RotaryEmbedding');
    await raised(rotary('shared', turn), ['x'], 'RotaryEmbedding');
  }
  await raised(rotary('angles', bySlices, 1.3), ['x'], 'RotaryEmbedding');
});

test('features turned another way stay as they are', async () => {
  const swapped = (b: GraphBuilder) =>
    b.op('Concat', [b.op('Neg', [last(b, 'x', 0, 4)]), last(b, 'x', 4, 8)], { axis: -1 });
  await leftAlone(rotary('angles', swapped), ['x'], 'RotaryEmbedding');
  const uneven = (b: GraphBuilder) =>
    b.op('Concat', [b.op('Neg', [last(b, 'x', 3, 8)]), last(b, 'x', 0, 3)], { axis: -1 });
  await leftAlone(rotary('angles', uneven), ['x'], 'RotaryEmbedding');
});

const attention: Emit = (b) => {
  const p = b.op('Softmax', [b.op('Add', ['scores', 'mask'])], { axis: -1 });
  const guarded = b.op('Where', [b.op('IsNaN', [p]), number(b, 0), p]);
  return b.op('MatMul', [guarded, 'values']);
};

test('rows that see no key are zero without a look at every attention weight', async () => {
  const after = await run(attention, ['scores', 'values'], true);
  assert.ok(!after.ops.includes('IsNaN') && after.ops.includes('ReduceMax'), after.ops.join(' '));
  await raised(attention, ['scores', 'values'], 'ReduceMax');
  // The second row's first query, in each head.
  const y = after.results[0]!;
  assert.ok([0, 1, 2, 3].every((head) => y.slice((4 + head) * 24, (4 + head) * 24 + 8).every((value) => value === 0)));
});

test('rows that see no key stay finite where nothing depends on them, and the others are as they were', async () => {
  const [before, after] = [await run(attention, [], false), await run(attention, [], true, 'any')];
  assert.ok(!after.ops.includes('IsNaN') && !after.ops.includes('ReduceMax'), after.ops.join(' '));
  const blind = (i: number) => i >= 96 && Math.floor(i / 8) % 3 === 0;
  for (const [i, value] of after.results[0]!.entries()) {
    const wanted = before.results[0]![i]!;
    assert.ok(Number.isFinite(value) && (blind(i) ? wanted === 0 : Math.abs(value - wanted) < 1e-6), `${i}: ${value}`);
  }
});

test('a guard stays where the weights are read elsewhere, or the bias differs between heads', async () => {
  const both: Emit = (b) => {
    const p = b.op('Softmax', [b.op('Add', ['scores', 'mask'])], { axis: -1 });
    const guarded = b.op('Where', [b.op('IsNaN', [p]), number(b, 0), p]);
    return b.op('Add', [
      b.op('MatMul', [guarded, 'values']),
      b.op('ReduceSum', [guarded, b.constant('int64', [-1])], { keepdims: 1 }),
    ]);
  };
  await leftAlone(both, ['scores'], 'ReduceMax');
  const byHead: Emit = (b) => {
    const p = b.op('Softmax', [b.op('Add', ['scores', 'scores'])], { axis: -1 });
    return b.op('MatMul', [b.op('Where', [b.op('IsNaN', [p]), number(b, 0), p]), 'values']);
  };
  await leftAlone(byHead, ['scores'], 'ReduceMax');
});

const keyColumns = (perm: number[], scale = 1): Emit => {
  return (b) => {
    const turned = b.op('Transpose', ['values'], { perm });
    return b.op('MatMul', ['x', scale === 1 ? turned : times(b, turned, scale)]);
  };
};

test('keys turned into columns', () => raised(keyColumns([0, 1, 3, 2]), ['x', 'values'], 'FusedMatMul'));
test('keys turned into columns and scaled', () =>
  raised(keyColumns([0, 1, 3, 2], 0.3), ['x', 'values'], 'FusedMatMul'));

test('keys turned into columns together with their heads', () => {
  const emit: Emit = (b) => {
    const byToken = b.op('Transpose', ['values'], { perm: [0, 2, 1, 3] });
    return b.op('MatMul', ['x', b.op('Transpose', [byToken], { perm: [0, 2, 3, 1] })]);
  };
  return raised(emit, ['x', 'values'], 'FusedMatMul');
});

test('values with their heads moved to the front are no columns', () => {
  const perm = [0, 2, 1, 3];
  const emit: Emit = (b) =>
    b.op('MatMul', ['scores', b.op('Transpose', [b.op('Transpose', ['values'], { perm })], { perm })]);
  return leftAlone(emit, ['scores', 'values'], 'FusedMatMul');
});
