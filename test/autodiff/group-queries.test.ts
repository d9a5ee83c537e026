/** Products with repeated keys and values are what they were when the repeats were copies, their gradients too. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { checkGraph } from '../../src/autodiff/check.ts';
import { appendGradient } from '../../src/autodiff/gradient.ts';
import { groupQueries } from '../../src/autodiff/group-queries.ts';
import { prune } from '../../src/autodiff/prune.ts';
import { createBuilder, emptyGraph, type GraphBuilder } from '../../src/onnx/builder.ts';
import { type Dim, symbol } from '../../src/onnx/dim.ts';
import type { Feed } from '../../src/onnx/session.ts';
import { typeOf } from '../../src/onnx/types.ts';
import { inferNode } from '../../src/ops/registry.ts';
import { runGraph } from '../support/run-graph.ts';

const [rows, queries, keys] = [symbol('rows'), symbol('queries'), symbol('keys')];
const inputs: Record<string, { shape: Dim[]; dims: number[] }> = {
  q: { shape: [rows, 6, queries, 4], dims: [2, 6, 3, 4] },
  k: { shape: [rows, 2, keys, 4], dims: [2, 2, 5, 4] },
  v: { shape: [rows, 2, keys, 4], dims: [2, 2, 5, 4] },
};
const names = Object.keys(inputs);

/** [B, K, S, D] as exporters repeat it. */
function repeat(b: GraphBuilder, x: string, groups: number): string {
  const single = b.op('Unsqueeze', [x, b.constant('int64', [2])]);
  const wide = b.op('Expand', [single, b.constant('int64', [1, 1, groups, 1, 1])]);
  return b.op('Reshape', [wide, b.constant('int64', [0, 2 * groups, -1, 4])]);
}

/** Attention with keys as rows and scaled, values, and the gradients of all. */
async function attend(rewrite: boolean, groups = 3) {
  const b = createBuilder(emptyGraph('g'), inferNode);
  for (const name of names) b.input(name, typeOf('float32', inputs[name]!.shape));
  const scaled = b.op('Mul', [repeat(b, 'k', groups), b.constant('float32', 0.5)]);
  const attributes = { transA: 0, transB: 1, alpha: { float: 1 } };
  const scores = b.op('FusedMatMul', ['q', scaled], attributes, { domain: 'com.microsoft' });
  const y = b.op('MatMul', [b.op('Softmax', [scores], { axis: -1 }), repeat(b, 'v', groups)]);
  const shape = b.shape(y);
  if (rewrite) groupQueries(b);
  assert.deepEqual(b.shape(y), shape);
  b.graph.outputs = [{ name: y, dtype: 'float32', shape }];
  prune(b.graph);
  const forward = b.graph.nodes.map(({ op }) => op);
  const gradients = appendGradient(b, { seeds: new Map([[y, b.op('Cos', [y])]]), wrt: names });
  for (const name of gradients.values()) b.output(name);
  prune(b.graph);
  checkGraph(b.graph, 'test');
  const results = await runGraph(b.graph, feedOf);
  return { forward, results: [y, ...names.map((name) => gradients.get(name)!)].map((name) => results[name]!) };
}

function feedOf(name: string): Feed {
  const { dims } = inputs[name]!;
  const count = dims.reduce((product, dim) => product * dim, 1);
  const data = Float32Array.from({ length: count }, (_, i) => Math.sin(1.7 * i + names.indexOf(name)));
  return { dtype: 'float32', dims, data };
}

test('queries that share keys are rows of one product', async () => {
  const [before, after] = [await attend(false), await attend(true)];
  assert.ok(before.forward.includes('Expand') && !after.forward.includes('Expand'), after.forward.join(' '));
  for (const [i, wanted] of before.results.entries()) {
    const found = after.results[i]!;
    assert.deepEqual(found.dims, wanted.dims);
    const [a, b] = [wanted.data, found.data] as [Float32Array, Float32Array];
    const size = Math.max(...a.map(Math.abs));
    assert.ok(size > 0.01);
    assert.ok(Math.max(...a.map((value, j) => Math.abs(value - b[j]!))) < 2e-6 * size, `result ${i}`);
  }
});

test('a tensor that is stretched along another axis stays', () => {
  const b = createBuilder(emptyGraph('g'), inferNode);
  for (const name of names) b.input(name, typeOf('float32', inputs[name]!.shape));
  b.input('one', typeOf('float32', [rows, 1, keys, 4]));
  const single = b.op('Unsqueeze', ['one', b.constant('int64', [2])]);
  const wide = b.op('Expand', [single, b.constant('int64', [1, 2, 3, 1, 1])]);
  const stretched = b.op('Reshape', [wide, b.constant('int64', [0, 6, -1, 4])]);
  const y = b.op('MatMul', [b.op('MatMul', ['q', b.op('Transpose', [stretched], { perm: [0, 1, 3, 2] })]), stretched]);
  groupQueries(b);
  b.graph.outputs = [{ name: y, dtype: 'float32', shape: b.shape(y) }];
  prune(b.graph);
  assert.ok(b.graph.nodes.some(({ op }) => op === 'Expand'));
});
