/** Finds the word-embedding lookup: where prompt rows take the place of words. */
import { PtunedError } from '../errors.ts';
import type { Graph, Node } from '../onnx/ir.ts';
import { idsPass } from './assemble.ts';

export interface Embedding {
  /** The Gather node, the ids it looks up, and what it yields (after a conversion from half precision). */
  node: string;
  ids: string;
  output: string;
  /** The table [vocabulary, width]. */
  weight: string;
  width: number;
  dtype: string;
}

/**
 * The one Gather of a [vocabulary, width] weight by the input ids, which may pass through ops that only rearrange them.
 * @throws PtunedError import_refused saying what was seen
 */
export function findEmbedding(graph: Graph, inputIds: readonly string[], vocabulary: number): Embedding {
  const ids = new Set(inputIds);
  const found: Node[] = [];
  for (const node of graph.nodes) {
    const [first, second] = node.inputs;
    if (idsPass.has(node.op) && ids.has(first ?? '')) ids.add(node.outputs[0]!);
    if (node.op === 'Gather' && graph.initializers.has(first ?? '') && ids.has(second ?? '')) found.push(node);
  }
  const tables = found.filter((node) => {
    const { dims } = graph.initializers.get(node.inputs[0]!)!;
    return dims.length === 2 && (vocabulary === 0 || dims[0]! >= vocabulary);
  });
  const [node] = tables;
  if (node === undefined || tables.length > 1) {
    const seen = tables.map((one) => `Gather "${one.name}"`).join(', ') || 'no Gather of a weight by input_ids';
    throw new PtunedError(
      'import_refused',
      `The word-embedding lookup was not found: seen ${seen}; exactly one Gather of a [vocabulary, width] weight by input_ids is expected.`,
    );
  }
  const weight = node.inputs[0]!;
  const { dims, dtype } = graph.initializers.get(weight)!;
  return { node: node.name, ids: node.inputs[1]!, output: widened(graph, node), weight, width: dims[1]!, dtype };
}

/** Rows of a half-precision table are converted behind the lookup. */
function widened(graph: Graph, lookup: Node): string {
  const output = lookup.outputs[0]!;
  const readers = graph.nodes.filter((node) => node.inputs.includes(output));
  const [only] = readers;
  return readers.length === 1 && only?.op === 'Cast' ? only.outputs[0]! : output;
}
