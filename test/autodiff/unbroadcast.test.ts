import assert from 'node:assert/strict';
import { test } from 'node:test';
import { checkGraph } from '../../src/autodiff/check.ts';
import { unbroadcast } from '../../src/autodiff/unbroadcast.ts';
import { createBuilder, emptyGraph } from '../../src/onnx/builder.ts';
import { clampDim, type Dim, symbol } from '../../src/onnx/dim.ts';
import { elementCount } from '../../src/onnx/ir.ts';
import { createSession } from '../../src/onnx/session.ts';
import { typeOf } from '../../src/onnx/types.ts';
import { inferNode } from '../../src/ops/registry.ts';

const [b, s] = [symbol('b'), symbol('s')];

function reduction(from: Dim[], to: Dim[]) {
  const builder = createBuilder(emptyGraph('g'), inferNode);
  builder.input('gradient', typeOf('float32', from));
  builder.input('value', typeOf('float32', to));
  const result = unbroadcast(builder, 'gradient', 'value');
  const made = builder.graph.nodes.map((node) => node.op);
  const output = builder.op('Identity', [result]);
  builder.output(output);
  checkGraph(builder.graph, 'test');
  return { made, graph: builder.graph, output };
}

/** Runs the reduction of ones: each element counts what it stood for. */
async function counts(from: Dim[], to: Dim[], sizes: { from: number[]; to: number[] }) {
  const { graph, output } = reduction(from, to);
  // onnxruntime refuses feeds that nothing reads.
  const keep = createBuilder(graph, inferNode);
  keep.output(keep.op('Shape', ['value']));
  const model = { irVersion: 10, producer: '', opsets: new Map([['', 21]]), graph, functions: [] };
  const session = await createSession(model, { threads: 1, device: 'cpu' });
  const ones = (dims: number[]) => ({
    dtype: 'float32' as const,
    dims,
    data: new Float32Array(elementCount(dims)).fill(1),
  });
  const results = await session.run({ gradient: ones(sizes.from), value: ones(sizes.to) });
  await session.close();
  return { dims: [...results[output]!.dims], values: [...(results[output]!.data as Float32Array)] };
}

test('nothing is emitted where the shapes are provably equal', () => {
  assert.deepEqual(reduction([b, s, 8], [b, s, 8]).made, []);
  assert.deepEqual(reduction([], []).made, []);
  // A number above 1 cannot have been stretched to a symbol, nor a clamped length to the length.
  assert.deepEqual(reduction([b, s], [b, 8]).made, []);
  assert.deepEqual(reduction([b, s], [b, clampDim(64, s)]).made, []);
});

test('known axes are summed in one or two nodes, no shape is asked', () => {
  assert.deepEqual(reduction([b, s, 8], [8]).made, ['ReduceSum']);
  assert.deepEqual(reduction([b, s, 8], [1, s, 8]).made, ['ReduceSum']);
  assert.deepEqual(reduction([b, s, 8], [1, 8]).made, ['ReduceSum', 'ReduceSum']);
});

test('known axes: values', async () => {
  const found = await counts([b, s, 2], [1, 2], { from: [3, 4, 2], to: [1, 2] });
  assert.deepEqual(found, { dims: [1, 2], values: [12, 12] });
});

test('symbols that differ in name are compared at run time: equal, or one of them 1', async () => {
  const other = symbol('other');
  assert.ok(reduction([b, s], [b, other]).made.includes('NonZero'));
  assert.deepEqual(await counts([b, s], [b, other], { from: [2, 3], to: [2, 3] }), {
    dims: [2, 3],
    values: [1, 1, 1, 1, 1, 1],
  });
  assert.deepEqual(await counts([b, s], [b, other], { from: [2, 3], to: [2, 1] }), { dims: [2, 1], values: [3, 3] });
  assert.deepEqual(await counts([4, b, s], [other, 1], { from: [4, 2, 3], to: [2, 1] }), {
    dims: [2, 1],
    values: [12, 12],
  });
});
