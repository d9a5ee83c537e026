/** Forms of fused ops that no kernel of a CPU computes: against the same written in forms that have one. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createBuilder, emptyGraph, type GraphBuilder } from '../../src/onnx/builder.ts';
import { symbol } from '../../src/onnx/dim.ts';
import type { AttributeInit } from '../../src/onnx/ir.ts';
import type { Feed } from '../../src/onnx/session.ts';
import { tensorOf, typeOf } from '../../src/onnx/types.ts';
import { inferNode } from '../../src/ops/registry.ts';
import { gradientError, outputError, outputTolerance, tolerances } from './compare.ts';
import { finiteDifferences } from './differences.ts';
import { type Knowledge, ruleGradients } from './rule-gradients.ts';
import { type Subject, typedArray } from './subject.ts';

/** Variables of a pair of graphs: [batch, sequence, width], or other shapes whose sizes are known. */
type Shapes = Record<string, number[]>;

/** Appends nodes and returns the result. */
type Write = (b: GraphBuilder) => string;

const ms = { domain: 'com.microsoft' };

function subjectOf(shapes: Shapes, write: Write): Subject {
  const b = createBuilder(emptyGraph('form'), inferNode);
  const feeds: Record<string, Feed> = {};
  for (const [i, [name, dims]] of Object.entries(shapes).entries()) {
    b.input(name, typeOf('float32', dims));
    const count = dims.reduce((product, dim) => product * dim, 1);
    const values = Array.from({ length: count }, (_, k) => Math.fround(Math.sin(2.3 * k + i)));
    feeds[name] = { dtype: 'float32', dims, data: typedArray('float32', values) };
  }
  b.append({ op: 'Identity', domain: '', name: 'result', inputs: [write(b)], outputs: ['y'], attributes: new Map() });
  b.output('y');
  const opsets = new Map([
    ['', 21],
    ['com.microsoft', 1],
  ]);
  const model = { irVersion: 10, producer: 'test', opsets, graph: b.graph, functions: [] };
  return { model, feeds, variables: Object.keys(shapes), silent: new Set() };
}

/** Batch and sequence of activations (rank 3) are symbols. */
function knowledgeOf(shapes: Shapes): Knowledge {
  const bindings = new Map<string, number>();
  return {
    bindings,
    shapeOf: (input) =>
      shapes[input]!.map((size, axis) => {
        if (shapes[input]!.length !== 3 || axis === 2) return size;
        bindings.set(`${input}${axis}`, size);
        return symbol(`${input}${axis}`);
      }),
  };
}

function same(name: string, shapes: Shapes, form: Write, plain: Write): void {
  test(name, async () => {
    const expected = await finiteDifferences(subjectOf(shapes, plain), { precision: 'float32' });
    const found = await ruleGradients(subjectOf(shapes, form), knowledgeOf(shapes), expected.outputs);
    assert.deepEqual(found.disagreements, []);
    const [output, gradient] = [outputError(found.outputs, expected.outputs), gradientError(found, expected)];
    assert.ok(output.error <= outputTolerance, output.what);
    assert.ok(gradient.error <= tolerances[expected.precision], gradient.what);
  });
}

const mask = (b: GraphBuilder, dims: number[], values: number[]) =>
  b.initializer('mask', tensorOf('int32', dims, values));

/** [B, S, 4] values as [B, S, 2 heads, parts, 2]. */
function packed(b: GraphBuilder, names: string[]): string {
  const parts = names.map((name) => b.op('Reshape', [name, b.constant('int64', [0, 0, 2, 1, 2])]));
  return b.op('Concat', parts, { axis: 3 });
}

const multiHead = (b: GraphBuilder, inputs: string[], attributes: Record<string, AttributeInit> = {}) =>
  b.op('MultiHeadAttention', inputs, { num_heads: 2, ...attributes }, ms);

const qkv = { q: [2, 3, 4], k: [2, 3, 4], v: [2, 3, 4] };
const bias = { bias: [12] };

same(
  'MultiHeadAttention: query, key and value packed',
  qkv,
  (b) => multiHead(b, [packed(b, ['q', 'k', 'v'])]),
  (b) => multiHead(b, ['q', 'k', 'v']),
);
same(
  'MultiHeadAttention: query, key and value packed, with bias, mask and unidirectional',
  { ...qkv, ...bias },
  (b) => {
    const padding = mask(b, [2, 3], [1, 1, 1, 1, 1, 0]);
    return multiHead(b, [packed(b, ['q', 'k', 'v']), '', '', 'bias', padding], { unidirectional: 1 });
  },
  (b) => multiHead(b, ['q', 'k', 'v', 'bias', mask(b, [2, 3], [1, 1, 1, 1, 1, 0])], { unidirectional: 1 }),
);
same(
  'MultiHeadAttention: key and value packed, of another length than the query',
  { q: [2, 3, 4], k: [2, 5, 4], v: [2, 5, 4] },
  (b) => multiHead(b, ['q', packed(b, ['k', 'v'])]),
  (b) => multiHead(b, ['q', 'k', 'v']),
);

const projection = { x: [2, 3, 4], weight: [4, 24], shift: [24] };
const attention = (b: GraphBuilder, rest: string[], attributes: Record<string, AttributeInit> = {}) =>
  b.emit('Attention', ['x', 'weight', 'shift', ...rest], { num_heads: 2, ...attributes }, { ...ms, outputs: 2 })[0]!;

/** [2, 1, 4, 4] for rows of up to 4 tokens; the last three of them are queries where there is a past of one. */
const large = [1, 0, 0, 0, 1, 1, 0, 0, 1, 0, 1, 0, 1, 1, 1, 1, 1, 0, 0, 0, 1, 1, 0, 0, 0, 1, 1, 0, 1, 1, 0, 1];
const cut = (rows: number[], keys: number) =>
  [0, 1].flatMap((row) => rows.flatMap((q) => large.slice(16 * row + 4 * q, 16 * row + 4 * q + keys)));

same(
  'Attention: a mask for rows of any length',
  projection,
  (b) => attention(b, [mask(b, [2, 1, 4, 4], large)]),
  (b) => attention(b, [mask(b, [2, 3, 3], cut([0, 1, 2], 3))]),
);
same(
  'Attention: a mask for rows of any length behind a past',
  { ...projection, past: [2, 2, 2, 1, 4] },
  (b) => attention(b, [mask(b, [2, 1, 4, 4], large), 'past']),
  (b) => attention(b, [mask(b, [2, 3, 4], cut([1, 2, 3], 4)), 'past']),
);

/** The op of its own in front of the attention, with a cache of the same angles. */
function rotatedApart(rotaryDim: number): Write {
  return (b) => {
    const projected = b.op('Add', [b.op('MatMul', ['x', 'weight']), 'shift']);
    const parts = b.emit('Split', [projected], { axis: -1, num_outputs: 3 }, { outputs: 3 });
    const half = rotaryDim / 2;
    const angles = Array.from({ length: 3 * half }, (_, i) => Math.floor(i / half) * 10000 ** (-(i % half) / half));
    const cache = (f: (x: number) => number) => b.initializer('cache', tensorOf('float32', [3, half], angles.map(f)));
    const [cos, sin] = [cache(Math.cos), cache(Math.sin)];
    const attributes = { num_heads: 2, rotary_embedding_dim: rotaryDim };
    const turn = (x: string) => b.op('RotaryEmbedding', [x, b.constant('int64', [0]), cos, sin], attributes, ms);
    return multiHead(b, [turn(parts[0]!), turn(parts[1]!), parts[2]!], { unidirectional: 1 });
  };
}

const wide = { x: [2, 3, 4], weight: [4, 48], shift: [48] };
same('Attention: do_rotary', wide, (b) => attention(b, [], { do_rotary: 1, unidirectional: 1 }), rotatedApart(8));
same(
  'Attention: do_rotary over a part of each head',
  wide,
  (b) => attention(b, [], { do_rotary: 1, rotary_embedding_dim: 4, unidirectional: 1 }),
  rotatedApart(4),
);
