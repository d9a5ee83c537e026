/** Rows picked and turned in one go are the rows that were picked and turned one after the other. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { checkGraph } from '../../src/autodiff/check.ts';
import { gatherHeads } from '../../src/autodiff/gather-heads.ts';
import { prune } from '../../src/autodiff/prune.ts';
import { createBuilder, emptyGraph, type GraphBuilder } from '../../src/onnx/builder.ts';
import { multiplyDims, symbol } from '../../src/onnx/dim.ts';
import type { Feed } from '../../src/onnx/session.ts';
import { typeOf } from '../../src/onnx/types.ts';
import { inferNode } from '../../src/ops/registry.ts';
import { runGraph } from '../support/run-graph.ts';

const [b, s, t] = [symbol('b'), symbol('s'), symbol('t')];
const [rows, length, heads, size] = [2, 3, 2, 4];
const perm = [0, 2, 1, 3];

type Emit = (builder: GraphBuilder) => string;

async function run(emit: Emit, rewrite: boolean) {
  const builder = createBuilder(emptyGraph('g'), inferNode);
  builder.input('tokens', typeOf('float32', [t, heads, size]));
  builder.input('turned', typeOf('float32', [b, heads, s, size]));
  builder.input('spread', typeOf('int64', [b, s]));
  builder.input('packed', typeOf('int64', [t]));
  const y = emit(builder);
  if (rewrite) gatherHeads(builder);
  builder.graph.outputs = [{ name: y, dtype: 'float32', shape: builder.shape(y) }];
  prune(builder.graph);
  checkGraph(builder.graph, 'test');
  const floats = (dims: number[]): Feed => ({
    dtype: 'float32',
    dims,
    data: Float32Array.from({ length: dims.reduce((product, dim) => product * dim, 1) }, (_, i) => i + 1),
  });
  const feeds: Record<string, Feed> = {
    tokens: floats([5, heads, size]),
    turned: floats([rows, heads, length, size]),
    spread: { dtype: 'int64', dims: [rows, length], data: BigInt64Array.from([0n, 1n, 2n, 0n, 4n, 3n]) },
    packed: { dtype: 'int64', dims: [5], data: BigInt64Array.from([0n, 1n, 2n, 4n, 5n]) },
  };
  const result = (await runGraph(builder.graph, (name) => feeds[name]!))[y]!;
  return {
    dims: [...result.dims],
    values: [...(result.data as Float32Array)],
    ops: builder.graph.nodes.map(({ op }) => op),
  };
}

async function isOneMove(emit: Emit): Promise<void> {
  const [before, after] = [await run(emit, false), await run(emit, true)];
  assert.ok(before.ops.includes('Transpose') && !after.ops.includes('Transpose'), after.ops.join(' '));
  assert.deepEqual([after.dims, after.values], [before.dims, before.values]);
}

const flatten = (builder: GraphBuilder, value: string) => {
  const flat = builder.op('Reshape', [value, builder.constant('int64', [-1, heads, size])]);
  builder.types.set(flat, typeOf('float32', [multiplyDims(b, s), heads, size]));
  return flat;
};

test('heads of a part of each token are picked before it is split', async () => {
  const emit =
    (part: number): Emit =>
    (builder) => {
      const row = (value: string, width: number) =>
        builder.op('Reshape', [value, builder.constant('int64', [1, -1, width])]);
      const scaled = builder.op('Mul', ['tokens', builder.constant('float32', 7)]);
      const joined = builder.op('Concat', [row('tokens', heads * size), row(scaled, heads * size)], { axis: 2 });
      const sizes = builder.constant('int64', [size, heads * size, size]);
      const split = builder.emit('Split', [joined, sizes], { axis: -1 }, { outputs: 3 });
      const count = part === 1 ? heads : 1;
      const apart = builder.op('Reshape', [split[part]!, builder.constant('int64', [-1, count, size])]);
      builder.types.set(apart, typeOf('float32', [t, count, size]));
      return builder.op('Transpose', [builder.op('Gather', [apart, 'spread'], { axis: 0 })], { perm });
    };
  for (const part of [0, 1, 2]) {
    const [before, after] = [await run(emit(part), false), await run(emit(part), true)];
    assert.ok(before.ops.includes('Split') && !after.ops.includes('Split'), after.ops.join(' '));
    assert.deepEqual([after.dims, after.values], [before.dims, before.values]);
  }
});

test('tokens at their places, heads in front', () =>
  isOneMove((builder) => builder.op('Transpose', [builder.op('Gather', ['tokens', 'spread'], { axis: 0 })], { perm })));

test('tokens at places in a row, as gradients come back', () =>
  isOneMove((builder) => {
    const places = builder.op('Reshape', ['spread', builder.constant('int64', [-1])]);
    const all = builder.op('Gather', ['tokens', places], { axis: 0 });
    const shape = builder.op('Concat', [builder.op('Shape', ['spread']), builder.constant('int64', [heads, size])], {
      axis: 0,
    });
    const nested = builder.op('Reshape', [all, shape]);
    builder.types.set(nested, typeOf('float32', [b, s, heads, size]));
    return builder.op('Transpose', [nested], { perm });
  }));

test('tokens out of heads', () =>
  isOneMove((builder) =>
    builder.op('Gather', [flatten(builder, builder.op('Transpose', ['turned'], { perm })), 'packed'], { axis: 0 }),
  ));

test('another exchange of axes stays', async () => {
  const other: Emit = (builder) =>
    builder.op('Transpose', [builder.op('Gather', ['tokens', 'spread'], { axis: 0 })], { perm: [0, 2, 3, 1] });
  assert.ok((await run(other, true)).ops.includes('Transpose'));
});
