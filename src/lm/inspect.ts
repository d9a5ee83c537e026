/** Finds out what an LM's folder holds: kind, inputs, word embedding, logits. Reads the graph, not the weights. */
import { PtunedError } from '../errors.ts';
import type { ImportOptions, InputRole, ModelInput } from '../models/manifest.ts';
import { dimKey } from '../onnx/dim.ts';
import type { Model, ValueInfo } from '../onnx/ir.ts';
import type { LmGraph } from './assemble.ts';
import { type LmConfig, readConfig } from './config-json.ts';
import { type Embedding, findEmbedding } from './embedding.ts';
import { findEncoded } from './encoded.ts';
import { chooseGraph } from './graph-file.ts';
import { type GraphFile, readParts, type StepSource } from './parts.ts';
import type { Halves } from './prepare.ts';

export interface Inspected extends LmGraph {
  config: LmConfig;
  /** Graphs as their files have them, the one with the logits first, and the folder external data is relative to. */
  files: GraphFile[];
  graphDirectory: string;
  /** The decoder that goes on from its cache, see step-program.ts; null: generation runs the whole decoder for each token. */
  steps: StepSource | null;
  embedding: Embedding;
  vocabularySize: number;
  /** Opset as written in the file. */
  opset: number;
}

export interface InspectOptions extends Pick<ImportOptions, 'embedding' | 'graph'> {
  /** Default: half precision is computed as float32, as a CPU does. */
  halves?: Halves;
}

/** @throws PtunedError missing_file, damaged_model, import_refused */
export function inspectDirectory(directory: string, options: InspectOptions = {}): Inspected {
  const config = readConfig(directory);
  const graph = chooseGraph(directory, config.kind, options.graph, config.graph);
  const parts = readParts(directory, graph, options.halves);
  const { model, files, directory: graphDirectory, encoded, steps } = parts;
  const inputs = model.graph.inputs.map(modelInput);
  if (!inputs.some((input) => input.role === 'input_ids')) {
    throw new PtunedError(
      'import_refused',
      `The graph takes ${inputs.map((one) => one.name).join(', ')}, but no input_ids.`,
    );
  }
  const logits = findLogits(model.graph.outputs);
  const embedding = findEmbedding(model.graph, idsOf(inputs), Number(config.raw.vocab_size ?? 0), options.embedding);
  const decoderIds = inputs.find((input) => input.role === 'decoder_input_ids')?.name;
  return {
    model,
    inputs,
    logits: logits.name,
    config,
    files,
    graphDirectory,
    encoded: encoded ?? (decoderIds === undefined ? null : findEncoded(model.graph, embedding.output, decoderIds)),
    steps,
    embedding,
    vocabularySize: vocabularyOf(logits, embedding, config, model),
    opset: files[0]!.model.opsets.get('') ?? 0,
  };
}

function modelInput(input: ValueInfo): ModelInput {
  return {
    name: input.name,
    role: roleOf(input),
    dtype: input.dtype,
    shape: (input.shape ?? []).map((dim) =>
      typeof dim === 'number' ? dim : dimKey(dim).startsWith('?') ? null : dimKey(dim),
    ),
  };
}

const roles: Record<string, InputRole> = {
  input_ids: 'input_ids',
  attention_mask: 'attention_mask',
  position_ids: 'position_ids',
  token_type_ids: 'token_type_ids',
  decoder_input_ids: 'decoder_input_ids',
  decoder_attention_mask: 'decoder_attention_mask',
  global_attention_mask: 'global_attention_mask',
};

function roleOf(input: ValueInfo): InputRole {
  const role = input.name.startsWith('past_key_values.') ? 'past' : roles[input.name];
  if (role === undefined) {
    throw new PtunedError(
      'import_refused',
      `The graph takes an input "${input.name}"; known are ${Object.keys(roles).join(', ')} and past_key_values.*.`,
    );
  }
  return role;
}

function findLogits(outputs: readonly ValueInfo[]): ValueInfo {
  const found = outputs.find((one) => one.name === 'logits') ?? outputs.find((one) => one.name === 'prediction_logits');
  if (found !== undefined) return found;
  const [only] = outputs;
  if (outputs.length === 1 && only?.shape?.length === 3) return only;
  throw new PtunedError(
    'import_refused',
    `The graph yields ${outputs.map((one) => one.name).join(', ')}; an output "logits" is expected (export it as an LM, not as a feature extractor).`,
  );
}

function idsOf(inputs: readonly ModelInput[]): string[] {
  return inputs.filter((input) => input.role === 'input_ids').map((input) => input.name);
}

function vocabularyOf(logits: ValueInfo, embedding: Embedding, config: LmConfig, model: Model): number {
  const last = logits.shape?.at(-1);
  if (typeof last === 'number') return last;
  const stated = Number(config.raw.vocab_size);
  return Number.isInteger(stated) && stated > 0
    ? stated
    : model.graph.initializers.get(embedding.weight)!.dims[embedding.axis]!;
}
