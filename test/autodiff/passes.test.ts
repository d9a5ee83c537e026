/** prune, checkGraph and canonicalize. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { canonicalize } from '../../src/autodiff/canonicalize.ts';
import { checkGraph } from '../../src/autodiff/check.ts';
import { prune } from '../../src/autodiff/prune.ts';
import type { PtunedError } from '../../src/errors.ts';
import { emptyGraph } from '../../src/onnx/builder.ts';
import { type AttributeInit, attributesOf, type Graph, type Model, type Node } from '../../src/onnx/ir.ts';
import { createSession } from '../../src/onnx/session.ts';
import { tensorOf } from '../../src/onnx/types.ts';

function node(op: string, inputs: string[], outputs: string[], attributes: Record<string, AttributeInit> = {}): Node {
  return { op, domain: '', name: outputs[0]!, inputs, outputs, attributes: attributesOf(attributes) };
}

function graphOf(nodes: Node[], outputs: string[], dims = [2, 3, 4]): Graph {
  return {
    ...emptyGraph('g'),
    inputs: [{ name: 'x', dtype: 'float32', shape: dims }],
    outputs: outputs.map((name) => ({ name, dtype: 'float32', shape: null })),
    nodes,
  };
}

const subgraph = (reads: string): Graph => ({
  ...emptyGraph('branch'),
  outputs: [{ name: 'inner', dtype: 'float32', shape: null }],
  nodes: [node('Exp', [reads], ['inner'])],
});

test('prune keeps what outputs need, what subgraphs read included', () => {
  const graph = graphOf(
    [
      node('Neg', ['x'], ['a']),
      node('Abs', ['x'], ['unused']),
      node('Mul', ['unused', 'w'], ['unused2']),
      { ...node('If', ['c'], ['y']), attributes: new Map([['then_branch', { kind: 'graph', value: subgraph('a') }]]) },
    ],
    ['y'],
  );
  graph.initializers.set('c', tensorOf('bool', [], [1]));
  graph.initializers.set('w', tensorOf('float32', [], [1]));
  prune(graph);
  assert.deepEqual(
    graph.nodes.map((one) => one.op),
    ['Neg', 'If'],
  );
  assert.deepEqual([...graph.initializers.keys()], ['c']);
  assert.equal(graph.inputs.length, 1);
});

test('checkGraph names the node that breaks an invariant', () => {
  const fails = (graph: Graph, message: RegExp) => assert.throws(() => checkGraph(graph, 'a pass'), message);
  checkGraph(graphOf([node('Neg', ['x'], ['y'])], ['y']), 'a pass');
  fails(graphOf([node('Neg', ['z'], ['y'])], ['y']), /after a pass: Neg "y" reads "z"/);
  fails(graphOf([node('Neg', ['y'], ['z']), node('Neg', ['x'], ['y'])], ['z']), /reads "y", which nothing before/);
  fails(graphOf([node('Neg', ['x'], ['y']), node('Abs', ['x'], ['y'])], ['y']), /Abs "y" yields "y" a second time/);
  fails(graphOf([node('Neg', ['x'], ['x'])], ['x']), /a second time/);
  fails(graphOf([], ['y']), /nothing yields the output "y"/);
  const clash = graphOf([], ['x']);
  clash.initializers.set('x', tensorOf('float32', [], [1]));
  fails(clash, /same name/);
  const outer = { ...node('If', ['x'], ['y']), attributes: new Map() };
  outer.attributes.set('then_branch', { kind: 'graph' as const, value: subgraph('missing') });
  fails(graphOf([outer], ['y']), /reads "missing"/);
});

function modelOf(opset: number, graph: Graph): Model {
  return { irVersion: 7, producer: '', opsets: new Map([['', opset]]), graph, functions: [] };
}

async function outputs(model: Model): Promise<number[][]> {
  const session = await createSession(model, { threads: 1, device: 'cpu' });
  const data = Float32Array.from({ length: 24 }, (_, i) => Math.sin(i) + 0.1 * i);
  const results = await session.run({ x: { dtype: 'float32', dims: [2, 3, 4], data } });
  await session.close();
  return session.outputs.map((name) => [...results[name]!.dims, ...(results[name]!.data as Float32Array)]);
}

/** Old forms, each with the opset that has them. */
const oldForms: [number, string, Node[], string[]][] = [
  [11, 'Unsqueeze and Squeeze axes', [node('Unsqueeze', ['x'], ['u'], { axes: [0, -1] }), node('Squeeze', ['u'], ['y'], { axes: [0] })], ['y']],
  [11, 'Squeeze without axes', [node('Unsqueeze', ['x'], ['u'], { axes: [0] }), node('Squeeze', ['u'], ['y'])], ['y']],
  [11, 'ReduceSum axes', [node('ReduceSum', ['x'], ['y'], { axes: [-1], keepdims: 0 })], ['y']],
  [17, 'ReduceMean axes', [node('ReduceMean', ['x'], ['y'], { axes: [1, 2] })], ['y']],
  [13, 'ReduceMax over everything', [node('ReduceMax', ['x'], ['y'], { keepdims: 0 })], ['y']],
  [17, 'ReduceL2 axes', [node('ReduceL2', ['x'], ['y'], { axes: [0] })], ['y']],
  [11, 'Split sizes', [node('Split', ['x'], ['a', 'b'], { axis: 1, split: [1, 2] })], ['a', 'b']],
  [11, 'Split evenly', [node('Split', ['x'], ['a', 'b'], { axis: 2 })], ['a', 'b']],
  [17, 'Split evenly', [node('Split', ['x'], ['a', 'b'], { axis: 0 })], ['a', 'b']],
  [11, 'Softmax over the last axes', [node('Softmax', ['x'], ['y'], { axis: 1 })], ['y']],
  [12, 'LogSoftmax over all', [node('LogSoftmax', ['x'], ['y'], { axis: 0 })], ['y']],
  [12, 'Softmax over the default axis', [node('Softmax', ['x'], ['y'])], ['y']],
  [11, 'Softmax over axis -1', [node('Softmax', ['x'], ['y'], { axis: -1 })], ['y']],
  [11, 'Softmax over axis -2', [node('Softmax', ['x'], ['y'], { axis: -2 })], ['y']],
  [11, 'Dropout with a ratio', [node('Dropout', ['x'], ['y'], { ratio: { float: 0.5 } })], ['y']],
  [11, 'Constant', [node('Constant', [], ['c'], { value: { tensor: tensorOf('float32', [1], [2.5]) } }), node('Mul', ['x', 'c'], ['y'])], ['y']],
  [12, 'Constant of a float', [node('Constant', [], ['c'], { value_float: { float: 2.5 } }), node('Mul', ['x', 'c'], ['y'])], ['y']],
  [11, 'Clip', [node('Clip', ['x'], ['y'])], ['y']],
]; // biome-ignore format: a table

for (const [opset, name, nodes, wanted] of oldForms) {
  test(`opset ${opset}, ${name}: the canonical form computes the same`, async () => {
    const model = modelOf(opset, graphOf(nodes, wanted));
    const before = JSON.stringify([...model.graph.nodes, [...model.graph.initializers.keys()]]);
    const canonical = canonicalize(model);
    checkGraph(canonical.graph, 'canonicalize');
    assert.equal(canonical.opsets.get(''), 21);
    assert.deepEqual(await outputs(canonical), await outputs(model));
    assert.equal(
      JSON.stringify([...model.graph.nodes, [...model.graph.initializers.keys()]]),
      before,
      'input untouched',
    );
  });
}

test('opsets below 11 are refused', () => {
  assert.throws(
    () => canonicalize(modelOf(10, graphOf([node('Neg', ['x'], ['y'])], ['y']))),
    (error: PtunedError) => error.code === 'import_refused' && error.message.includes('opset 10'),
  );
});

test('a newer opset stays', () => {
  assert.equal(canonicalize(modelOf(23, graphOf([node('Neg', ['x'], ['y'])], ['y']))).opsets.get(''), 23);
});
