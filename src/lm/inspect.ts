/** Finds out what an LM's folder holds: kind, inputs, word embedding, logits. Reads the graph, not the weights. */
import { existsSync, readFileSync, statSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { checkGraph } from '../autodiff/check.ts';
import { PtunedError } from '../errors.ts';
import type { InputRole, ModelInput } from '../models/manifest.ts';
import { readModel } from '../onnx/decode.ts';
import { dimKey } from '../onnx/dim.ts';
import { isExternal, type Model, type ValueInfo } from '../onnx/ir.ts';
import type { LmGraph } from './assemble.ts';
import { type Embedding, findEmbedding } from './embedding.ts';
import { prepareModel } from './prepare.ts';

export interface LmConfig {
  kind: 'masked' | 'causal';
  architecture: string;
  raw: Record<string, unknown>;
}

export interface Inspected extends LmGraph {
  config: LmConfig;
  /** Relative path of the graph and the folder its external data is relative to. */
  graphPath: string;
  graphDirectory: string;
  embedding: Embedding;
  vocabularySize: number;
  /** Opset as written in the file. */
  opset: number;
}

/** @throws PtunedError missing_file, damaged_model, import_refused */
export function inspectDirectory(directory: string): Inspected {
  const config = readConfigJson(directory);
  const graphPath = findGraph(directory);
  const path = join(directory, graphPath);
  const graphDirectory = dirname(path);
  const read = readModel(path, relative(graphDirectory, path));
  checkWeightFiles(read, graphDirectory);
  checkRead(read, graphPath);
  const model = prepareModel(read);
  const inputs = model.graph.inputs.map(modelInput);
  if (!inputs.some((input) => input.role === 'input_ids')) {
    throw new PtunedError(
      'import_refused',
      `The graph takes ${inputs.map((one) => one.name).join(', ')}, but no input_ids.`,
    );
  }
  const embedding = findEmbedding(model.graph, idsOf(inputs), Number(config.raw.vocab_size ?? 0));
  const logits = findLogits(model.graph.outputs);
  return {
    model,
    inputs,
    logits: logits.name,
    config,
    graphPath,
    graphDirectory,
    embedding,
    vocabularySize: vocabularyOf(logits, embedding, config, model),
    opset: read.opsets.get('') ?? 0,
  };
}

export function readConfigJson(directory: string): LmConfig {
  const path = join(directory, 'config.json');
  if (!existsSync(path))
    throw new PtunedError(
      'missing_file',
      `${directory} has no config.json; the layout of the Hugging Face Hub is expected.`,
    );
  let raw: Record<string, unknown>;
  try {
    raw = JSON.parse(readFileSync(path, 'utf8')) as Record<string, unknown>;
  } catch (error) {
    throw new PtunedError('import_refused', `${path} is not JSON: ${(error as Error).message}`, { cause: error });
  }
  const architectures = Array.isArray(raw.architectures) ? raw.architectures.map(String) : [];
  const architecture = architectures[0] ?? String(raw.model_type ?? 'unknown');
  // XLM and FlauBERT say here what their …WithLMHeadModel is.
  const kind = raw.causal === false ? 'masked' : kindOf(architecture, String(raw.model_type ?? ''));
  if (kind === null) {
    throw new PtunedError(
      'import_refused',
      `config.json names the architecture ${architecture}; accepted are masked LMs (…ForMaskedLM) and causal LMs (…ForCausalLM, …LMHeadModel).`,
    );
  }
  return { kind, architecture, raw };
}

const causalTypes = /^(gpt|llama|opt|mistral|qwen|gemma|phi|bloom|falcon|smollm|xglm|codegen|mpt|stablelm|xlnet)/;
const maskedTypes = /^(bert|roberta|albert|distilbert|electra|deberta|modernbert|xlm-roberta|camembert|mpnet)/;

function kindOf(architecture: string, modelType: string): LmConfig['kind'] | null {
  if (/(ForMaskedLM|ForPreTraining)$/.test(architecture)) return 'masked';
  if (/(ForCausalLM|LMHeadModel|LMHead)$/.test(architecture)) return 'causal';
  if (/For[A-Z]/.test(architecture)) return null;
  if (causalTypes.test(modelType)) return 'causal';
  return maskedTypes.test(modelType) ? 'masked' : null;
}

function findGraph(directory: string): string {
  const candidates = ['model.onnx', 'onnx/model.onnx'];
  const found = candidates.find((one) => existsSync(join(directory, one)));
  if (found === undefined)
    throw new PtunedError('missing_file', `${directory} has neither ${candidates.join(' nor ')}.`);
  return found;
}

function checkRead(model: Model, graphPath: string): void {
  try {
    checkGraph(model.graph, `reading ${graphPath}`);
  } catch (error) {
    throw new PtunedError('damaged_model', (error as Error).message, { cause: error });
  }
}

/** External data must lie inside the model's folder, exist, and be long enough. */
function checkWeightFiles(model: Model, directory: string): void {
  for (const [name, tensor] of model.graph.initializers) {
    if (!isExternal(tensor.data)) continue;
    const { location, offset, length } = tensor.data;
    if (location.startsWith('/') || location.split(/[/\\]/).includes('..')) {
      throw new PtunedError('import_refused', `Weight "${name}" refers to "${location}", outside the model's folder.`);
    }
    const path = join(directory, location);
    if (!existsSync(path))
      throw new PtunedError(
        'missing_file',
        `Weight "${name}" is in "${location}", which is missing beside the graph.`,
        { details: { file: location } },
      );
    const { size } = statSync(path);
    if (offset + length > size) {
      throw new PtunedError(
        'damaged_model',
        `Weight "${name}" ends at byte ${offset + length} of "${location}", which has ${size} bytes.`,
      );
    }
  }
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

function vocabularyOf(logits: ValueInfo, embedding: { weight: string }, config: LmConfig, model: Model): number {
  const last = logits.shape?.at(-1);
  if (typeof last === 'number') return last;
  const stated = Number(config.raw.vocab_size);
  return Number.isInteger(stated) && stated > 0 ? stated : model.graph.initializers.get(embedding.weight)!.dims[0]!;
}
