/** Function bodies and branches with a known condition become plain nodes. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { checkGraph } from '../../src/autodiff/check.ts';
import { appendGradient } from '../../src/autodiff/gradient.ts';
import { inlineFunctions } from '../../src/autodiff/inline.ts';
import { replay } from '../../src/autodiff/replay.ts';
import type { PtunedError } from '../../src/errors.ts';
import { createBuilder, emptyGraph, type GraphBuilder } from '../../src/onnx/builder.ts';
import { type Dim, symbol } from '../../src/onnx/dim.ts';
import {
  type Attribute,
  attributesOf,
  type Graph,
  type Model,
  type Node,
  type OnnxFunction,
} from '../../src/onnx/ir.ts';
import { createSession } from '../../src/onnx/session.ts';
import { tensorOf, typeOf } from '../../src/onnx/types.ts';
import { inferNode } from '../../src/ops/registry.ts';

function node(
  op: string,
  inputs: string[],
  outputs: string[],
  attributes: Map<string, Attribute> = new Map(),
  domain = '',
): Node {
  return { op, domain, name: `n_${outputs[0]}`, inputs, outputs, attributes };
}

const reference = (name: string): Attribute => ({ kind: 'reference', value: name });

function functionOf(
  name: string,
  inputs: string[],
  outputs: string[],
  nodes: Node[],
  defaults: Map<string, Attribute> = new Map(),
): OnnxFunction {
  return { name, domain: 'local', inputs, outputs, nodes, defaults };
}

function modelOf(nodes: Node[], functions: OnnxFunction[]): Model {
  const graph: Graph = {
    ...emptyGraph('g'),
    inputs: [{ name: 'x', dtype: 'float32', shape: [3] }],
    outputs: [{ name: 'y', dtype: 'float32', shape: [3] }],
    nodes,
  };
  return { irVersion: 10, producer: '', opsets: new Map([['', 21], ['local', 1]]), graph, functions }; // biome-ignore format: one line
}

async function run(model: Model): Promise<number[]> {
  const session = await createSession(model, { threads: 1, device: 'cpu' });
  const result = await session.run({ x: { dtype: 'float32', dims: [3], data: Float32Array.of(-1, 0.5, 2) } });
  await session.close();
  return [...(result.y!.data as Float32Array)];
}

const leaky = functionOf(
  'Leaky',
  ['a'],
  ['b'],
  [node('LeakyRelu', ['a'], ['inner'], new Map([['alpha', reference('slope')]])), node('Neg', ['inner'], ['b'])],
  new Map([['slope', { kind: 'float', value: 0.25 }]]),
);
const twice = functionOf(
  'Twice',
  ['a'],
  ['b', 'same'],
  [node('Leaky', ['a'], ['inner'], new Map(), 'local'), node('Leaky', ['inner'], ['b'], attributesOf({ slope: { float: 0.5 } }), 'local'), node('Identity', ['a'], ['same'])],
); // biome-ignore format: nodes in a row

test('calls, calls in functions, attributes given and left out: the inlined graph computes the same', async () => {
  const model = modelOf(
    [
      node('Leaky', ['x'], ['l'], attributesOf({ slope: { float: 0.1 } }), 'local'),
      node('Twice', ['l'], ['t', 'same'], new Map(), 'local'),
      node('Twice', ['t'], ['u', ''], new Map(), 'local'),
      node('Sum', ['u', 'same', 'l'], ['y']),
    ],
    [leaky, twice],
  );
  const inlined = inlineFunctions(model);
  checkGraph(inlined.graph, 'inline');
  assert.equal(inlined.functions.length, 0);
  assert.ok(inlined.graph.nodes.every((one) => one.domain === ''));
  assert.deepEqual(await run(inlined), await run(model));
});

test('an output that is an input of the function passes through', async () => {
  const model = modelOf(
    [node('Pass', ['x'], ['p', 'q'], new Map(), 'local'), node('Add', ['p', 'q'], ['y'])],
    [functionOf('Pass', ['a'], ['a', 'b'], [node('Neg', ['a'], ['b'])])],
  );
  const inlined = inlineFunctions(model);
  checkGraph(inlined.graph, 'inline');
  assert.deepEqual(await run(inlined), [0, 0, 0]);
});

test('functions that call each other in a circle are refused', () => {
  const circle = functionOf('Circle', ['a'], ['b'], [node('Circle', ['a'], ['b'], new Map(), 'local')]);
  const many = (i: number) => {
    const calls = Array.from({ length: 8 }, (_, k) => node(`F${i + 1}`, ['a'], [`o${k}`], new Map(), 'local'));
    return functionOf(`F${i}`, ['a'], ['o0'], calls);
  };
  for (const [name, functions] of [
    ['Circle', [circle]],
    ['F0', Array.from({ length: 30 }, (_, i) => many(i))],
  ] as const) {
    const model = modelOf([node(name, ['x'], ['y'], new Map(), 'local')], [...functions]);
    assert.throws(
      () => inlineFunctions(model),
      (error: PtunedError) => error.code === 'damaged_model',
    );
  }
});

/** Both branches name their values alike, as exporters do. */
function branch(op: string): Attribute {
  const graph: Graph = {
    ...emptyGraph('branch'),
    outputs: [{ name: 'out', dtype: 'float32', shape: null }],
    initializers: new Map([['half', tensorOf('float32', [], [0.5])]]),
    nodes: [node(op, ['h'], ['mid']), node('Mul', ['mid', 'half'], ['out'])],
  };
  return { kind: 'graph', value: graph };
}

/** h = x + x; two Ifs in a row; the first on `condition`. */
function branching(condition: (builder: GraphBuilder) => string, shape: Dim[] = [3]): GraphBuilder {
  const builder = createBuilder(emptyGraph('g'), inferNode);
  builder.input('x', typeOf('float32', shape));
  const branches = new Map([
    ['then_branch', branch('Exp')],
    ['else_branch', branch('Neg')],
  ]);
  const known = condition(builder);
  const source: Graph = {
    ...emptyGraph('source'),
    nodes: [
      node('Add', ['x', 'x'], ['h']),
      node('If', [known], ['first'], branches),
      node('If', [builder.constant('bool', 1)], ['second'], branches),
      node('Add', ['first', 'second'], ['y']),
    ],
  };
  replay(builder, source, { renamed: new Map(), lower: () => true });
  return builder;
}

const countOf = (builder: GraphBuilder, op: string) => builder.graph.nodes.filter((one) => one.op === op).length;

test('a constant condition leaves the branch taken, and its gradient is right', () => {
  const builder = branching((b) => b.constant('bool', 0));
  assert.deepEqual(
    ['If', 'Exp', 'Neg'].map((op) => countOf(builder, op)),
    [0, 1, 1],
  );
  checkGraph(builder.graph, 'replay');
  const seed = builder.input('seed', typeOf('float32', [3]));
  const gradients = appendGradient(builder, { seeds: new Map([['y', seed]]), wrt: ['x'] });
  assert.deepEqual(builder.shape(gradients.get('x')!), [3]);
});

test('a condition that follows from known shapes is resolved', () => {
  const builder = branching(
    (b) => {
      const rank = b.op('Size', [b.op('Shape', ['x'])]);
      return b.op('Equal', [rank, b.constant('int64', 1)]);
    },
    [symbol('n')],
  );
  assert.deepEqual(
    ['If', 'Exp', 'Neg'].map((op) => countOf(builder, op)),
    [0, 2, 0],
  );
});

test('a condition that only the run knows: refused on a gradient path, by name', () => {
  const builder = branching((b) => b.op('Equal', [b.op('Size', ['x']), b.constant('int64', 1)]), [symbol('n')]);
  assert.equal(countOf(builder, 'If'), 1);
  const seed = builder.input('seed', typeOf('float32', [symbol('n')]));
  builder.types.set('first', typeOf('float32', [symbol('n')]));
  assert.throws(
    () => appendGradient(builder, { seeds: new Map([['y', seed]]), wrt: ['x'] }),
    (error: PtunedError) => error.code === 'unsupported_op' && error.message.includes('If "n_first"'),
  );
});
