/** Graphs of tests on one thread. */
import type { Graph } from '../../src/onnx/ir.ts';
import { createSession, type Feed } from '../../src/onnx/session.ts';

/** Outputs of a graph by name, from feeds of the inputs that its nodes read; others are dropped from it. */
export async function runGraph(graph: Graph, feedOf: (name: string) => Feed): Promise<Record<string, Feed>> {
  const opsets = new Map([
    ['', 21],
    ['com.microsoft', 1],
  ]);
  const read = new Set(graph.nodes.flatMap((node) => node.inputs));
  graph.inputs = graph.inputs.filter(({ name }) => read.has(name));
  const model = { irVersion: 10, producer: '', opsets, graph, functions: [] };
  const session = await createSession(model, { threads: 1, device: 'cpu' });
  const results = await session.run(Object.fromEntries(session.inputs.map((name) => [name, feedOf(name)])));
  await session.close();
  return results;
}
