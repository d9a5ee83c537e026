/** A graph as patterns look at it. */
import type { GraphBuilder } from '../../onnx/builder.ts';
import type { Node } from '../../onnx/ir.ts';
import { readersOf } from '../prune.ts';

export interface View {
  readonly builder: GraphBuilder;
  /** The node that yields a value; undefined for inputs and initializers. */
  producer(value: string): Node | undefined;
  readers(value: string): readonly Node[];
  /** The one number that a constant holds, null for any other value. */
  scalar(value: string): number | null;
}

/** Finds its op at `node`. Emits what comes before it and returns the node that yields `node`'s output; null: not this one. */
export type Pattern = (view: View, node: Node) => Node | null;

/** Puts what `look` finds at a node in its place, node by node; what the found ones replace is left for the prune pass. */
export function rewriteNodes(builder: GraphBuilder, look: (view: View, node: Node) => Node | null): void {
  const view = viewOf(builder);
  const { nodes } = builder.graph;
  builder.graph.nodes = [];
  for (const node of nodes) {
    const type = builder.types.get(node.outputs[0]!);
    const found = look(view, node);
    builder.graph.nodes.push(found ?? node);
    if (found === null || found === node) continue;
    builder.infer(found);
    // What was known of the value is more than its new op tells.
    builder.types.set(node.outputs[0]!, type!);
  }
}

/** Looks at the nodes as they are now. */
export function viewOf(builder: GraphBuilder): View {
  const producers = new Map<string, Node>();
  for (const node of builder.graph.nodes) for (const name of node.outputs) producers.set(name, node);
  const readers = readersOf(builder.graph.nodes);
  return {
    builder,
    producer: (value) => producers.get(value),
    readers: (value) => readers.get(value) ?? [],
    scalar(value) {
      const type = builder.types.get(value);
      const one = type?.value?.length === 1 ? type.value[0] : undefined;
      return typeof one === 'number' ? one : null;
    },
  };
}

/** The two inputs of a node, the one that `isFirst` holds for in front; null where there is none. */
export function operands(
  node: Node | undefined,
  op: string,
  isFirst: (value: string) => boolean,
): [string, string] | null {
  if (node?.op !== op || node.domain !== '') return null;
  const [a, b] = node.inputs as [string, string];
  if (isFirst(a)) return [a, b];
  return isFirst(b) ? [b, a] : null;
}

/** The number that a node multiplies its first input with, or divides it by; null where it does something else. */
export function scaling({ scalar }: View, { op, domain, inputs }: Node): string | null {
  const by = inputs[1] ?? '';
  return domain === '' && (op === 'Mul' || op === 'Div') && scalar(by) !== null ? by : null;
}
