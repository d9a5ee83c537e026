/** The order in which nodes are handed to the runtime. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { byDepth } from '../../src/autodiff/order.ts';
import { emptyGraph } from '../../src/onnx/builder.ts';
import { attributesOf, type Graph, type Node } from '../../src/onnx/ir.ts';

function node(op: string, inputs: string[], output: string): Node {
  return { op, domain: '', name: output, inputs, outputs: [output], attributes: attributesOf({}) };
}

/** A chain of so many functions, then its gradient: a derivative of each, which waits only for its function. */
function chain(layers: number): Node[] {
  const forward = Array.from({ length: layers }, (_, i) => node('Exp', [`y${i}`], `y${i + 1}`));
  const backward = Array.from({ length: layers }, (_, at) => {
    const i = layers - at;
    return [node('Neg', [`y${i}`], `d${i}`), node('Mul', [i === layers ? `y${i}` : `g${i + 1}`, `d${i}`], `g${i}`)];
  });
  return [...forward, ...backward.flat()];
}

/** Most nodes that could run and wait, while those that could are run in the order of the list. */
function mostWaiting(nodes: readonly Node[]): number {
  const missing = nodes.map(({ inputs }) => inputs.filter((name) => nodes.some((one) => one.outputs.includes(name))));
  const done = new Set<string>();
  const left = new Set(nodes.keys());
  let most = 0;
  while (left.size > 0) {
    const ready = [...left].filter((i) => missing[i]!.every((name) => done.has(name)));
    most = Math.max(most, ready.length);
    left.delete(ready[0]!);
    for (const name of nodes[ready[0]!]!.outputs) done.add(name);
  }
  return most;
}

test('no node waits long for its turn, however many layers there are', () => {
  for (const layers of [4, 16]) {
    const nodes = chain(layers);
    assert.ok(mostWaiting(nodes) >= layers);
    assert.ok(mostWaiting(byDepth(nodes)) <= 3);
  }
});

test('every node comes once, behind what it and its subgraphs read', () => {
  const branch: Graph = {
    ...emptyGraph('branch'),
    outputs: [{ name: 'inner', dtype: 'float32', shape: null }],
    nodes: [node('Exp', ['late'], 'inner')],
  };
  const reader: Node = {
    ...node('If', ['condition'], 'result'),
    attributes: new Map([['then_branch', { kind: 'graph', value: branch }]]),
  };
  const nodes = [node('Neg', ['x'], 'early'), node('Neg', ['early'], 'late'), reader, node('Abs', ['x'], 'other')];
  assert.deepEqual(
    byDepth(nodes).map(({ outputs }) => outputs[0]),
    ['early', 'other', 'late', 'result'],
  );
});
