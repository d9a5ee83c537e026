/** Everything about an LM's folder that decides whether and how it trains. Runs where the import runs. */
import { existsSync } from 'node:fs';
import { basename, resolve } from 'node:path';
import { lowerings } from '../autodiff/lower/registry.ts';
import { PtunedError } from '../errors.ts';
import type { Inspection, InspectionRequest, MemoryEstimate } from '../models/inspection.ts';
import type { ImportOptions } from '../models/manifest.ts';
import { describeNode, type Model, type Node, nodeName } from '../onnx/ir.ts';
import { opKey } from '../ops/op.ts';
import type { Candidates } from '../tasks/types.ts';
import { otherGraphs } from './graph-file.ts';
import { gradientPathOf, maxLength } from './import.ts';
import { type Inspected, inspectDirectory } from './inspect.ts';
import { estimateMemory } from './memory.ts';
import { trainProgram } from './programs.ts';
import { asRefusal } from './refusal.ts';
import { tryPrefix } from './trial-prefix.ts';
import { weightsOf } from './weights.ts';

/** @throws PtunedError missing_file, damaged_model, import_refused, invalid_request where a row is longer than the LM takes; an op without a rule is reported, not refused */
export async function inspectModel(
  directory: string,
  request: InspectionRequest,
  options: Pick<ImportOptions, 'embedding' | 'graph'> = {},
): Promise<Inspection> {
  const folder = resolve(directory);
  if (!existsSync(folder)) throw new PtunedError('missing_file', `There is no folder ${folder}.`);
  try {
    return await inspection(folder, request, options);
  } catch (error) {
    throw asRefusal(error);
  }
}

async function inspection(
  folder: string,
  request: InspectionRequest,
  options: Pick<ImportOptions, 'embedding' | 'graph'>,
): Promise<Inspection> {
  const lm = inspectDirectory(folder, options);
  const longest = maxLength(lm, folder);
  if (request.length > longest) {
    const message = `--length is ${request.length}; this LM takes at most ${longest} tokens, pseudo tokens included.`;
    throw new PtunedError('invalid_request', message, { param: 'length' });
  }
  const read = lm.files.map((file) => file.model);
  const graph = lm.files[0]!.path;
  const weights = weightsOf(lm.model.graph);
  const { counts, missing, straightThrough } = gradientPathOf(lm);
  const lookup = lm.model.graph.nodes.find((node) => nodeName(node) === lm.embedding.node);
  const { node, weight, width, dtype } = lm.embedding;
  return {
    directory: folder,
    graph,
    otherGraphs: otherGraphs(folder, lm.config.kind).filter((path) => path !== graph),
    kind: lm.config.kind,
    architecture: lm.config.architecture,
    parameters: weights.parameters,
    weightBytes: weights.bytes,
    precision: weights.precision,
    opsets: Object.fromEntries([...read[0]!.opsets].map(([domain, version]) => [domain || 'ai.onnx', version])),
    exporter: read.map((one) => one.producer).join(', ') || 'not named in the file',
    nodes: nodesOf(read).length,
    inputs: [...lm.inputs],
    logits: lm.logits,
    vocabularySize: lm.vocabularySize,
    maxLength: longest,
    embedding: { op: lookup === undefined ? 'Gather' : opKey(lookup.domain, lookup.op), node, weight, width, dtype },
    gradientPath: counts,
    missing: Object.fromEntries([...missing].map(([key, one]) => [key, describeNode(one)])),
    straightThrough,
    lowering: rewrites(read, lm.model),
    prefixRefusal: await tryPrefix(lm, basename(folder)),
    memory: missing.size > 0 ? null : memoryOf(lm, request),
  };
}

/** The largest training step there is: scores over the whole vocabulary. */
function memoryOf(lm: Inspected, request: InspectionRequest): MemoryEstimate {
  const count = lm.vocabularySize;
  const candidates: Candidates = {
    count,
    width: 1,
    ids: Int32Array.from({ length: count }, (_, i) => i),
    weights: new Float32Array(count).fill(1),
    names: [],
  };
  return estimateMemory(trainProgram(lm, candidates), request);
}

function nodesOf(models: readonly Model[]): Node[] {
  return models.flatMap((one) => one.graph.nodes);
}

function rewrites(read: readonly Model[], prepared: Model): string[] {
  const list: string[] = [];
  const to = prepared.opsets.get('');
  const from = new Set(read.map((one) => one.opsets.get('')));
  from.delete(to);
  if (from.size > 0) list.push(`opset ${[...from].join(', ')} read as ${to}`);
  const functions = read.reduce((sum, one) => sum + one.functions.length, 0);
  if (functions > 0) list.push(`${plural(functions, 'function')} inlined`);
  const branches = countOf(nodesOf(read), 'If') - countOf(prepared.graph.nodes, 'If');
  if (branches > 0) list.push(`${plural(branches, 'If')} replaced by the branch that is always taken`);
  const halves = read.flatMap((one) => [...one.graph.initializers.values()].map(({ dtype }) => dtype));
  for (const half of ['float16', 'bfloat16'] as const)
    if (halves.includes(half)) list.push(`${half} computed as float32`);
  for (const key of lowerings.keys()) {
    // Those that hide the word embedding are rewritten while the graph is read.
    const count = Math.max(countOf(nodesOf(read), key), countOf(prepared.graph.nodes, key));
    if (count > 0) list.push(`${count} ${key} written as primitives`);
  }
  return list;
}

function countOf(nodes: readonly Node[], key: string): number {
  return nodes.filter((node) => opKey(node.domain, node.op) === key).length;
}

function plural(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? '' : 's'}`;
}
