/** What an LM's folder holds and what training it takes, for the terminal. */
import type { Inspection, MemoryEstimate } from '../src/models/inspection.ts';

export function describeInspection(one: Inspection): string {
  const { embedding } = one;
  const rows: [string, string | string[]][] = [
    ['graph', graph(one)],
    ['kind', `${one.kind} LM, ${one.architecture}`],
    ['parameters', `${count(one.parameters)} (${mebibytes(one.weightBytes)} stored)`],
    ['precision', precision(one)],
    ['opset', counts(one.opsets, ' ')],
    ['exporter', one.exporter],
    ['nodes', count(one.nodes)],
    ['inputs', one.inputs.map((input) => `${input.name} ${input.dtype} [${input.shape.map((dim) => dim ?? '?').join(', ')}]`)],
    ['logits', `${one.logits}, ${count(one.vocabularySize)} tokens`],
    ['embedding', `${embedding.op} "${embedding.node}" of ${embedding.weight}, ${embedding.width} wide, ${embedding.dtype}`],
    ['longest input', `${count(one.maxLength)} tokens, pseudo tokens included`],
    ['lowering', one.lowering.length === 0 ? 'none needed' : one.lowering],
    ['gradient path', counts(one.gradientPath, ' ')],
    ['missing rules', missing(one)],
    ...(one.straightThrough.length === 0 ? [] : [straightThrough(one)]),
    ['prefix tuning', one.prefixRefusal === null ? 'possible' : `not possible: ${one.prefixRefusal}`],
    ['memory', one.memory === null ? 'not known: rules are missing' : memory(one.memory)],
  ]; // biome-ignore format: a table
  const lines = rows.flatMap(([name, value]) =>
    [value].flat().map((line, i) => `  ${(i === 0 ? name : '').padEnd(17)} ${line}`),
  );
  return [one.directory, ...lines].join('\n');
}

function graph({ graph, otherGraphs }: Inspection): string {
  return otherGraphs.length === 0 ? graph : `${graph} (--graph takes ${otherGraphs.join(', ')} instead)`;
}

function missing(one: Inspection): string | string[] {
  const list = Object.entries(one.missing).map(([op, node]) => `${op}, as at ${node}`);
  return list.length === 0 ? 'none: this LM trains' : list;
}

function straightThrough(one: Inspection): [string, string] {
  return ['straight-through', `${one.straightThrough.join(', ')}: the gradient is that of the LM before rounding`];
}

function memory(estimate: MemoryEstimate): string[] {
  const { weights, packed, activations, batch, length, unknown } = estimate;
  const more = unknown === 0 ? '' : `, ${unknown} values of unknown size not counted`;
  return [
    `about ${mebibytes(weights + activations + estimate.process)} for a training step of ${batch} x ${length} tokens:`,
    `weights ${mebibytes(weights)} (${packed ? 'packed for products' : 'mapped from their files'}), values alive together ${mebibytes(activations)}${more},`,
    `the process itself ${mebibytes(estimate.process)}; estimated from the graph, without spare room of the allocator.`,
  ];
}

/** Sorted by number, largest first. */
function counts(values: Record<string, number>, between: string): string {
  const sorted = Object.entries(values).sort(([, a], [, b]) => b - a);
  return sorted.map(([name, value]) => `${name}${between}${value}`).join(', ');
}

function precision({ precision, parameters }: Inspection): string {
  const sorted = Object.entries(precision).sort(([, a], [, b]) => b - a);
  return sorted.map(([name, value]) => `${name} ${((100 * value) / parameters).toFixed(1)} %`).join(', ');
}

function count(value: number): string {
  return value.toLocaleString('en-US');
}

function mebibytes(bytes: number): string {
  return `${(bytes / 2 ** 20).toFixed(1)} MiB`;
}
