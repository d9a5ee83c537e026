/** An LM's graph from the files an exporter left: one, or several that only together are the LM. */
import { existsSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { valuesRead } from '../autodiff/prune.ts';
import { PtunedError } from '../errors.ts';
import { isFloat } from '../onnx/dtype.ts';
import type { Graph, Model, ValueInfo } from '../onnx/ir.ts';
import { tensorOf } from '../onnx/types.ts';
import { beside, type GraphChoice } from './graph-file.ts';
import { joinGraphs } from './join-graphs.ts';
import { type Halves, prepareModel } from './prepare.ts';
import { readGraph } from './read-graph.ts';
import { sharedWeights } from './shared-weights.ts';

/** A graph as its file has it. */
export interface GraphFile {
  /** Relative to the LM's folder. */
  path: string;
  model: Model;
}

export interface Parts {
  /** Prepared and whole: from token ids to logits. */
  model: Model;
  /** The graph with the logits comes first. */
  files: GraphFile[];
  /** Folder that external data is relative to. */
  directory: string;
  /** What the encoder hands to a decoder that was exported apart from it; null where there is no such value. */
  encoded: string | null;
  /** The decoder that goes on from keys and values, where the export has one. */
  steps: StepSource | null;
}

/** A decoder for one token more: the other branch of a merged decoder, or a graph of its own beside it. */
export interface StepSource {
  /** Name of its file in the folder of the graphs. */
  file: string;
  branch: boolean;
}

interface Part {
  file: GraphFile;
  /** Prepared. */
  model: Model;
}

const encoderNames = ['encoder_model'];
const stepNames = ['decoder_with_past_model'];
/** What exports that take `inputs_embeds` call the word embeddings beside them. */
const embeddingNames = ['embed_tokens', 'embed_tokens_model', 'embedding', 'embeddings'];

/** @throws PtunedError missing_file, damaged_model, import_refused */
export function readParts(folder: string, graph: GraphChoice, halves: Halves = 'widen'): Parts {
  const main = readPart(folder, [graph.path], halves);
  const directory = join(folder, dirname(graph.path));
  const partBeside = (names: readonly string[], reason: string) =>
    readPart(folder, beside(graph, names), halves, `${graph.path} takes "${reason}"`);
  const encoder = takes(main, 'encoder_hidden_states') ? partBeside(encoderNames, 'encoder_hidden_states') : null;
  const reader = encoder ?? main;
  const needsEmbedding = takes(reader, 'inputs_embeds') && !takes(reader, 'input_ids');
  const embedding = needsEmbedding ? partBeside(embeddingNames, 'inputs_embeds') : null;
  const text = embedding === null ? reader.model : withEmbedding(embedding.model, reader.model, directory);
  const files = [main, encoder, embedding].flatMap((part) => (part === null ? [] : [part.file]));
  if (encoder === null) return { model: text, files, directory, encoded: null, steps: null };
  const encoded = outputOf(text.graph, 'last_hidden_state').name;
  const model = withDecoder(text, main.model, encoded, directory);
  return { model, files, directory, encoded, steps: findSteps(main, folder, graph) };
}

function findSteps({ file }: Part, folder: string, graph: GraphChoice): StepSource | null {
  if (hasCacheBranch(file.model)) return { file: basename(file.path), branch: true };
  const path = beside(graph, stepNames).find((one) => existsSync(join(folder, one)));
  return path === undefined ? null : { file: basename(path), branch: false };
}

/** Prepared, with its keys and values as inputs. @throws PtunedError missing_file, damaged_model, import_refused */
export function readSteps(directory: string, { file, branch }: StepSource): Model {
  const read = readGraph(directory, file);
  return prepareModel(branch ? takeCacheBranch(read, true) : read);
}

/** The first of these files. @throws PtunedError missing_file */
function readPart(folder: string, names: readonly string[], halves: Halves, reason?: string): Part {
  const path = names.find((name) => existsSync(join(folder, name)));
  if (path === undefined) {
    const missing = `${folder} has ${names.length === 1 ? `no ${names[0]}` : `neither ${names.join(' nor ')}`}`;
    throw new PtunedError('missing_file', reason === undefined ? `${missing}.` : `${missing}; ${reason}.`);
  }
  const read = readGraph(folder, path);
  return { file: { path, model: read }, model: withoutCache(prepareModel(takeCacheBranch(read, false), halves)) };
}

function takes({ model }: Part, input: string): boolean {
  return model.graph.inputs.some((one) => one.name === input);
}

const cacheSwitch = 'use_cache_branch';

function hasCacheBranch({ graph }: Model): boolean {
  return graph.inputs.some((one) => one.name === cacheSwitch);
}

/** Optimum's merged decoders hold the graph twice, with a key/value cache and without; the latter is what trains. */
function takeCacheBranch(read: Model, cached: boolean): Model {
  if (!hasCacheBranch(read)) return read;
  const inputs = read.graph.inputs.filter((one) => one.name !== cacheSwitch);
  const initializers = new Map(read.graph.initializers).set(cacheSwitch, tensorOf('bool', [1], [cached ? 1 : 0]));
  return { ...read, graph: { ...read.graph, inputs, initializers } };
}

/** Keys and values that the branch taken does not read are no inputs. */
function withoutCache(model: Model): Model {
  const read = new Set(model.graph.nodes.flatMap((node) => [...valuesRead(node)]));
  const inputs = model.graph.inputs.filter((one) => !one.name.startsWith('past_key_values.') || read.has(one.name));
  return { ...model, graph: { ...model.graph, inputs } };
}

function withEmbedding(embedding: Model, reader: Model, directory: string): Model {
  const [ids, ...others] = embedding.graph.inputs;
  if (ids === undefined || others.length > 0 || ids.name !== 'input_ids') {
    const found = embedding.graph.inputs.map((one) => one.name).join(', ');
    throw new PtunedError('import_refused', `The graph of the word embeddings takes ${found}; input_ids is expected.`);
  }
  return joinGraphs(embedding, reader, {
    prefix: 'model/',
    wires: new Map([['inputs_embeds', outputOf(embedding.graph, 'inputs_embeds').name]]),
    inputs: new Map(reader.graph.inputs.map((one) => [one.name, one.name])),
    shared: sharedWeights(embedding.graph.initializers, reader.graph.initializers, directory),
  });
}

/** What a decoder calls its own inputs, as they are called beside its encoder's. */
const decoderInputs: Record<string, string> = {
  input_ids: 'decoder_input_ids',
  attention_mask: 'decoder_attention_mask',
  position_ids: 'decoder_position_ids',
  encoder_attention_mask: 'attention_mask',
};

function withDecoder(encoder: Model, decoder: Model, encoded: string, directory: string): Model {
  return joinGraphs(encoder, decoder, {
    prefix: 'decoder/',
    wires: new Map([['encoder_hidden_states', encoded]]),
    inputs: new Map(decoder.graph.inputs.map((one) => [one.name, decoderInputs[one.name] ?? one.name])),
    shared: sharedWeights(encoder.graph.initializers, decoder.graph.initializers, directory),
  });
}

/** The output of this name, else the first of floating-point numbers. */
function outputOf(graph: Graph, name: string): ValueInfo {
  const floats = graph.outputs.filter((one) => isFloat(one.dtype));
  const found = floats.find((one) => one.name === name) ?? floats[0];
  if (found !== undefined) return found;
  throw new PtunedError('import_refused', `A graph that should yield "${name}" yields no floating-point numbers.`);
}
