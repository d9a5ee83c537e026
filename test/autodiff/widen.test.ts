import assert from 'node:assert/strict';
import { test } from 'node:test';
import { checkGraph } from '../../src/autodiff/check.ts';
import { widenHalves } from '../../src/autodiff/widen.ts';
import { emptyGraph } from '../../src/onnx/builder.ts';
import { attributesOf, type Graph, type Model, type Node } from '../../src/onnx/ir.ts';
import { createSession } from '../../src/onnx/session.ts';
import { numbersOf, tensorOf } from '../../src/onnx/types.ts';

function node(op: string, inputs: string[], outputs: string[], attributes = {}): Node {
  return { op, domain: '', name: outputs[0]!, inputs, outputs, attributes: attributesOf(attributes) };
}

const values = (count: number) => Array.from({ length: count }, (_, i) => Math.sin(i));
const [rows, width, columns] = [40, 4, 20];

/** rows of a half table, times a half weight, plus a small half bias, and a scalar made in half precision. */
function halfModel(): Model {
  const graph: Graph = {
    ...emptyGraph('g'),
    inputs: [{ name: 'ids', dtype: 'int64', shape: [2] }],
    outputs: [{ name: 'y', dtype: 'float16', shape: [2, columns] }],
    nodes: [
      node('Gather', ['table', 'ids'], ['rows']),
      node('MatMul', ['rows', 'w'], ['product']),
      node('ConstantOfShape', ['one'], ['constant'], { value: { tensor: tensorOf('float16', [1], [0.5]) } }),
      node('Cast', ['constant'], ['again'], { to: 10 }),
      node('Sum', ['product', 'bias', 'again'], ['y']),
    ],
  };
  graph.initializers.set('table', tensorOf('float16', [rows, width], values(rows * width)));
  graph.initializers.set('w', tensorOf('float16', [width, columns], values(width * columns)));
  graph.initializers.set('bias', tensorOf('float16', [columns], values(columns)));
  graph.initializers.set('one', tensorOf('int64', [1], [1]));
  return { irVersion: 10, producer: '', opsets: new Map([['', 21]]), graph, functions: [] };
}

test('a half-precision graph computes in float32 from the same weights', async () => {
  const model = widenHalves(halfModel());
  checkGraph(model.graph, 'widen');
  assert.equal(model.graph.outputs[0]!.dtype, 'float32');
  const session = await createSession(model, { threads: 1, device: 'cpu' });
  const ids = [3, 17];
  const result = await session.run({ ids: { dtype: 'int64', dims: [2], data: BigInt64Array.from(ids, BigInt) } });
  await session.close();
  const of = (name: string) => numbersOf(halfModel().graph.initializers.get(name)!)!;
  const [table, w, bias] = [of('table'), of('w'), of('bias')];
  for (const [r, id] of ids.entries()) {
    for (let column = 0; column < columns; column++) {
      let expected = bias[column]! + 0.5;
      for (let i = 0; i < width; i++) expected += table[id * width + i]! * w[i * columns + column]!;
      const found = (result.y!.data as Float32Array)[r * columns + column]!;
      // Half precision itself would be off by 1e-3.
      assert.ok(Math.abs(found - expected) < 1e-6, `${found} ${expected}`);
    }
  }
});

test('big weights stay as they are in the file; of the table only the rows looked up are converted', () => {
  const { graph } = widenHalves(halfModel());
  assert.deepEqual(
    ['table', 'w', 'bias'].map((name) => graph.initializers.get(name)!.dtype),
    ['float16', 'float16', 'float32'],
  );
  const casts = graph.nodes.filter((one) => one.op === 'Cast').map((one) => one.inputs[0]);
  assert.ok(!casts.includes('table') && casts.includes('w'));
});

test('a float32 graph stays what it is', () => {
  const model = halfModel();
  const plain: Model = {
    ...model,
    graph: {
      ...emptyGraph('g'),
      inputs: [{ name: 'x', dtype: 'float32', shape: [2] }],
      outputs: [{ name: 'y', dtype: 'float32', shape: [2] }],
      nodes: [node('Cast', ['x'], ['z'], { to: 1 }), node('Neg', ['z'], ['y'])],
    },
  };
  assert.deepEqual(widenHalves(plain).graph, plain.graph);
});
