/** Chains of reshapes become one, unless the last takes an axis over from the one before. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { joinReshapes } from '../../src/autodiff/join-reshapes.ts';
import { prune } from '../../src/autodiff/prune.ts';
import { createBuilder, emptyGraph } from '../../src/onnx/builder.ts';
import { symbol } from '../../src/onnx/dim.ts';
import { typeOf } from '../../src/onnx/types.ts';
import { inferNode } from '../../src/ops/registry.ts';
import { runGraph } from '../support/run-graph.ts';

/** Reshapes x [n, 6] to these shapes in turn; the reshapes that are left, and the result's dims and values. */
async function chain(...shapes: number[][]) {
  const b = createBuilder(emptyGraph('g'), inferNode);
  b.input('x', typeOf('float32', [symbol('n'), 6]));
  const y = shapes.reduce((value, shape) => b.op('Reshape', [value, b.constant('int64', shape)]), 'x');
  joinReshapes(b);
  b.graph.outputs = [{ name: y, dtype: 'float32', shape: b.shape(y) }];
  prune(b.graph);
  const data = Float32Array.from({ length: 24 }, (_, i) => i);
  const result = (await runGraph(b.graph, () => ({ dtype: 'float32', dims: [4, 6], data })))[y]!;
  assert.deepEqual([...(result.data as Float32Array)], [...data]);
  return { count: b.graph.nodes.length, dims: [...result.dims] };
}

test('of a chain the last reshape is left', async () => {
  assert.deepEqual(await chain([-1, 2, 3], [-1, 3], [2, -1, 6]), { count: 1, dims: [2, 2, 6] });
});

test('an axis that is taken over comes from the reshape before', async () => {
  assert.deepEqual(await chain([-1, 2, 3], [-1, 12], [0, 4, -1]), { count: 2, dims: [2, 4, 3] });
});
