/** What is known of the values of a program, and told the runtime. */
import { createBuilder, type GraphBuilder } from '../onnx/builder.ts';
import { type Dim, dimKey, symbol } from '../onnx/dim.ts';
import type { Graph, ValueInfo } from '../onnx/ir.ts';
import { typeOf } from '../onnx/types.ts';
import { inferNode } from '../ops/registry.ts';

/**
 * Element types and shapes of all values with a known rank. When a session opens, the runtime seeks memory for every value
 * among all memory that is free by then, and takes what has the same shape in words. Its own inference leaves most
 * dimensions behind a Reshape without a name, so that little is ever taken and the search grows with the square of the
 * graph: 4 s for a training step of thirty layers.
 */
export function knownShapes(builder: GraphBuilder): ValueInfo[] {
  return builder.graph.nodes.flatMap((node) =>
    node.outputs.flatMap((name) => {
      const type = name === '' ? undefined : builder.types.get(name);
      if (type === undefined || type.shape === null) return [];
      return [{ name, dtype: type.dtype, shape: type.shape.map(named) }];
    }),
  );
}

/** A builder over a program's graph that knows of its values what {@link knownShapes} told, not what their ops say alone. */
export function programBuilder(graph: Graph): GraphBuilder {
  const builder = createBuilder({ ...graph, nodes: [...graph.nodes] }, inferNode);
  for (const { name, dtype, shape } of graph.values ?? []) builder.types.set(name, typeOf(dtype, shape));
  return builder;
}

/** A dimension of unknown size is one symbol all the same: wherever it stands it is the same size. */
function named(dim: Dim): Dim {
  return typeof dim !== 'number' && dimKey(dim).startsWith('?') ? symbol(`size${dimKey(dim).slice(1)}`) : dim;
}
