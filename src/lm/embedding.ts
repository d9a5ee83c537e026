/** Finds the word-embedding lookup: where prompt rows take the place of words. */
import { PtunedError } from '../errors.ts';
import type { DType } from '../onnx/dtype.ts';
import { type Graph, intAttribute, type Node } from '../onnx/ir.ts';
import { opKey } from '../ops/op.ts';
import { idsPass } from './assemble.ts';

export interface Embedding {
  /** The lookup's node, the ids it looks up, and what it yields (after a conversion from half precision or integers). */
  node: string;
  ids: string;
  output: string;
  /** The table [vocabulary, width] as it is stored: the last axis of packed integers is shorter. */
  weight: string;
  width: number;
  dtype: string;
}

const lookups = new Set(['Gather', 'com.microsoft.GatherBlockQuantized']);

/** Ops between a stored table and its lookup, or behind it. */
const conversions = new Set(['Cast', 'DequantizeLinear']);

/**
 * The one Gather of a [vocabulary, width] weight by the input ids, which may pass through ops that only rearrange them.
 * @throws PtunedError import_refused saying what was seen
 */
export function findEmbedding(graph: Graph, inputIds: readonly string[], vocabulary: number): Embedding {
  const ids = new Set(inputIds);
  const found: Node[] = [];
  const stored = new Map([...graph.initializers.keys()].map((name) => [name, name]));
  for (const node of graph.nodes) {
    const [first, second] = node.inputs;
    if (idsPass.has(node.op) && ids.has(first ?? '')) ids.add(node.outputs[0]!);
    const table = stored.get(first ?? '');
    if (table === undefined) continue;
    if (conversions.has(node.op)) stored.set(node.outputs[0]!, table);
    if (lookups.has(opKey(node.domain, node.op)) && ids.has(second ?? '')) found.push(node);
  }
  const tableOf = (node: Node) => stored.get(node.inputs[0]!)!;
  const tables = found.filter((node) => {
    const { dims } = graph.initializers.get(tableOf(node))!;
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
  const weight = tableOf(node);
  const { dims, dtype } = graph.initializers.get(weight)!;
  const width = dims[1]! * packing(node, dtype);
  return { node: node.name, ids: node.inputs[1]!, output: converted(graph, node.outputs[0]!), weight, width, dtype };
}

/** Elements in one of the table: GatherBlockQuantized packs several into a byte. */
function packing(lookup: Node, dtype: DType): number {
  return lookup.op === 'GatherBlockQuantized' && dtype === 'uint8' ? 8 / intAttribute(lookup, 'bits', 4) : 1;
}

/** Rows of a table in half precision or integers are converted behind the lookup. */
function converted(graph: Graph, output: string): string {
  const readers = graph.nodes.filter((node) => node.inputs.includes(output));
  const [only] = readers;
  if (readers.length !== 1 || only === undefined || !conversions.has(only.op)) return output;
  return converted(graph, only.outputs[0]!);
}
