/** Finds the word-embedding lookup: where prompt rows take the place of words. */
import { PtunedError } from '../errors.ts';
import type { DType } from '../onnx/dtype.ts';
import { describeNode, type Graph, intAttribute, type Node, nodeName } from '../onnx/ir.ts';
import { opKey } from '../ops/op.ts';
import { idsPass, idsStay } from './assemble.ts';

export interface Embedding {
  /** The lookup's node, the ids it looks up, and what it yields (after a conversion from half precision or integers). */
  node: string;
  ids: string;
  output: string;
  /**
   * The table [vocabulary, width] as it is stored, whose packed integers have a shorter last axis; where it is the head's
   * weight too it may be [width, vocabulary], which `axis` = 1 tells.
   */
  weight: string;
  axis: 0 | 1;
  width: number;
  dtype: string;
}

const lookupOps = new Set(['Gather', 'com.microsoft.GatherBlockQuantized']);

/** Ops between a stored table and its lookup, or behind it. */
const conversions = new Set(['Cast', 'DequantizeLinear']);

/** A lookup in a stored table. */
interface Lookup {
  node: Node;
  /** The table as it is stored, the axis that is looked up, and its dimensions, that axis first. */
  table: string;
  axis: number;
  dims: number[];
  /** Whether it looks up what `input_ids` holds. */
  byIds: boolean;
}

/**
 * The one Gather of a [vocabulary, width] weight by the input ids, which may pass through ops that only rearrange them;
 * or the one that is `wanted` by its name, whose ids may also pass through arithmetic that leaves them in their places.
 * @throws PtunedError import_refused saying what was seen
 */
export function findEmbedding(
  graph: Graph,
  inputIds: readonly string[],
  vocabulary: number,
  wanted?: string,
): Embedding {
  const lookups = lookupsOf(graph, inputIds, (op) => idsPass.has(op) || (wanted !== undefined && idsStay.has(op)));
  const isTable = ({ dims, byIds }: Lookup) =>
    byIds && dims.length === 2 && (wanted !== undefined || vocabulary === 0 || dims[0]! >= vocabulary);
  const named = wanted === undefined ? lookups : lookups.filter(({ node }) => nodeName(node) === wanted);
  const tables = named.filter(isTable);
  const [found] = tables;
  if (found === undefined || tables.length > 1) throw refuse(lookups, wanted, tables.length);
  const { node, table: weight, dims } = found;
  const { dtype } = graph.initializers.get(weight)!;
  const width = dims[1]! * packing(node, dtype);
  const axis = found.axis === 0 ? 0 : 1;
  const output = converted(graph, node.outputs[0]!, axis === 1);
  return { node: nodeName(node), ids: node.inputs[1]!, output, weight, axis, width, dtype };
}

function lookupsOf(graph: Graph, inputIds: readonly string[], passes: (op: string) => boolean): Lookup[] {
  const ids = new Set(inputIds);
  const found: Lookup[] = [];
  const stored = new Map([...graph.initializers.keys()].map((name) => [name, name]));
  for (const node of graph.nodes) {
    const [first, second] = node.inputs;
    if (passes(node.op) && node.inputs.some((name) => ids.has(name))) ids.add(node.outputs[0]!);
    const table = stored.get(first ?? '');
    if (table === undefined) continue;
    if (conversions.has(node.op)) stored.set(node.outputs[0]!, table);
    if (!lookupOps.has(opKey(node.domain, node.op))) continue;
    const axis = node.op === 'Gather' ? intAttribute(node, 'axis', 0) : 0;
    const { dims } = graph.initializers.get(table)!;
    found.push({ node, table, axis, dims: axis === 0 ? dims : [...dims].reverse(), byIds: ids.has(second ?? '') });
  }
  return found;
}

function refuse(lookups: readonly Lookup[], wanted: string | undefined, count: number): PtunedError {
  const matrices = lookups.filter(({ dims }) => dims.length === 2);
  const described = matrices.map(
    ({ node, table, dims, byIds }) =>
      `${describeNode(node)} of ${table} [${dims.join(', ')}] by ${byIds ? 'input_ids' : `"${node.inputs[1]}"`}`,
  );
  const more = described.length > shown ? ` and ${described.length - shown} more` : '';
  const seen = described.length === 0 ? 'no Gather of a weight' : `${described.slice(0, shown).join('; ')}${more}`;
  const what =
    wanted !== undefined
      ? `The node "${wanted}" is no lookup of a [vocabulary, width] weight by input_ids`
      : `The word-embedding lookup was ${count > 1 ? `found ${count} times` : 'not found'}`;
  return new PtunedError(
    'import_refused',
    `${what}: seen ${seen}. Exactly one Gather of a [vocabulary, width] weight by input_ids is expected; \`--embedding NODE\` of \`ptuned models add\`, or "embedding" in POST /v1/models, says which one it is.`,
    { param: 'embedding' },
  );
}

/** Lookups that a refusal names. */
const shown = 10;

/** Elements in one of the table: GatherBlockQuantized packs several into a byte. */
function packing(lookup: Node, dtype: DType): number {
  return lookup.op === 'GatherBlockQuantized' && dtype === 'uint8' ? 8 / intAttribute(lookup, 'bits', 4) : 1;
}

/** Rows of a table in half precision or integers are converted behind the lookup; columns are turned. */
function converted(graph: Graph, output: string, turns: boolean): string {
  const readers = graph.nodes.filter((node) => node.inputs.includes(output));
  const [only] = readers;
  if (readers.length !== 1 || only === undefined) return output;
  if (conversions.has(only.op)) return converted(graph, only.outputs[0]!, turns);
  return turns && only.op === 'Transpose' ? converted(graph, only.outputs[0]!, false) : output;
}
