import assert from 'node:assert/strict';
import { test } from 'node:test';
import { checkGraph } from '../../src/autodiff/check.ts';
import { sortNodes } from '../../src/autodiff/sort.ts';
import type { Graph, Node } from '../../src/onnx/ir.ts';

const node = (name: string, inputs: string[]): Node => ({
  op: 'Sum',
  domain: '',
  name,
  inputs,
  outputs: [name],
  attributes: new Map(),
});

const graph = (nodes: Node[], output: string): Graph => ({
  name: 'g',
  inputs: [{ name: 'x', dtype: 'float32', shape: [1] }],
  outputs: [{ name: output, dtype: 'float32', shape: [1] }],
  initializers: new Map(),
  nodes,
});

const order = (one: Graph) => one.nodes.map(({ name }) => name).join('');

test('a graph in order stays the same object', () => {
  const one = graph([node('a', ['x']), node('b', ['a', 'x']), node('c', ['a', 'a', 'b'])], 'c');
  assert.equal(sortNodes(one), one);
});

test('nodes before what they read come behind it, the others keep their order', () => {
  const late = [node('a', ['x']), node('d', ['c', 'b']), node('b', ['c']), node('e', ['a']), node('c', ['x'])];
  const sorted = sortNodes(graph(late, 'd'));
  assert.equal(order(sorted), 'aecbd');
  checkGraph(sorted, 'sorting');
});

test('a circle is left for the check to name', () => {
  const circle = graph([node('a', ['b']), node('b', ['a']), node('c', ['x'])], 'b');
  const sorted = sortNodes(circle);
  assert.equal(order(sorted), 'cab');
  assert.throws(() => checkGraph(sorted, 'reading'), /Sum "a" reads "b", which nothing before it yields/);
});

test('a graph whose nodes all stand in reverse is sorted in time that grows with it', () => {
  const count = 20_000;
  const names = Array.from({ length: count }, (_, i) => `n${i}`);
  const chain = names.map((name, i) => node(name, [i === 0 ? 'x' : names[i - 1]!])).reverse();
  const start = performance.now();
  const sorted = sortNodes(graph(chain, names.at(-1)!));
  checkGraph(sorted, 'sorting');
  assert.ok(performance.now() - start < 5000);
});
