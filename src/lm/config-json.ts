/** What kind of LM a folder holds: config.json of Transformers, or genai_config.json of onnxruntime-genai. */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { PtunedError } from '../errors.ts';
import type { LmKind } from '../models/schema.ts';

type Json = Record<string, unknown>;

export interface LmConfig {
  kind: LmKind;
  architecture: string;
  /** In the terms of config.json. */
  raw: Json;
  /** File of the graph with the logits, where the configuration names it. */
  graph: string | null;
}

/** @throws PtunedError missing_file, import_refused */
export function readConfig(directory: string): LmConfig {
  const raw = readJson(directory, 'config.json');
  const genai = readJson(directory, 'genai_config.json');
  if (raw === null && genai === null)
    throw new PtunedError(
      'missing_file',
      `${directory} has no config.json; the layout of the Hugging Face Hub is expected, or that of onnxruntime-genai with its genai_config.json.`,
    );
  const graph = genai === null ? null : decoderFile(genai);
  return raw === null ? genaiConfig(directory, genai!, graph) : { ...transformersConfig(raw), graph };
}

function transformersConfig(raw: Json): Omit<LmConfig, 'graph'> {
  const architectures = Array.isArray(raw.architectures) ? raw.architectures.map(String) : [];
  const architecture = architectures[0] ?? String(raw.model_type ?? 'unknown');
  const kind = kindOf(architecture, raw);
  if (kind === null) {
    throw new PtunedError(
      'import_refused',
      `config.json names the architecture ${architecture}; accepted are masked LMs (…ForMaskedLM), causal LMs (…ForCausalLM, …LMHeadModel) and encoder-decoder LMs (…ForConditionalGeneration).`,
    );
  }
  return { kind, architecture, raw };
}

/** Its `model` has the vocabulary, the special tokens and the longest text; all of a decoder is in `model.decoder`. */
function genaiConfig(directory: string, genai: Json, graph: string | null): LmConfig {
  const model = objectAt(genai, 'model');
  const architecture = String(model.type ?? 'unknown');
  if (graph === null || model.encoder !== undefined) {
    throw new PtunedError(
      'import_refused',
      `${directory}/genai_config.json describes "${architecture}", which is no decoder alone; accepted are those with model.decoder.filename and no model.encoder.`,
    );
  }
  const decoder = objectAt(model, 'decoder');
  const raw = { ...model, model_type: architecture, max_position_embeddings: model.context_length, ...decoder };
  return { kind: 'causal', architecture, raw, graph };
}

function decoderFile(genai: Json): string | null {
  const { filename } = objectAt(objectAt(genai, 'model'), 'decoder');
  return typeof filename === 'string' ? filename : null;
}

function objectAt(parent: Json, name: string): Json {
  const found = parent[name];
  return isObject(found) ? found : {};
}

function isObject(value: unknown): value is Json {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** Null where there is no such file. @throws PtunedError import_refused */
function readJson(directory: string, name: string): Json | null {
  const path = join(directory, name);
  if (!existsSync(path)) return null;
  try {
    const found: unknown = JSON.parse(readFileSync(path, 'utf8'));
    if (isObject(found)) return found;
  } catch (error) {
    throw new PtunedError('import_refused', `${path} is not JSON: ${(error as Error).message}`, { cause: error });
  }
  throw new PtunedError('import_refused', `${path} is not JSON: an object is expected.`);
}

const causalTypes = /^(gpt|llama|opt|mistral|qwen|gemma|phi|bloom|falcon|smollm|xglm|codegen|mpt|stablelm|xlnet)/;
const maskedTypes = /^(bert|roberta|albert|distilbert|electra|deberta|modernbert|xlm-roberta|camembert|mpnet)/;

function kindOf(architecture: string, raw: Json): LmKind | null {
  // XLM and FlauBERT say here what their …WithLMHeadModel is.
  if (raw.causal === false) return 'masked';
  const modelType = String(raw.model_type ?? '');
  if (/(ForMaskedLM|ForPreTraining)$/.test(architecture)) return 'masked';
  const generating = raw.is_encoder_decoder === true ? 'seq2seq' : 'causal';
  if (/(ForCausalLM|ForConditionalGeneration|LMHeadModel|LMHead|MTModel)$/.test(architecture)) return generating;
  if (/For[A-Z]/.test(architecture)) return null;
  if (raw.is_encoder_decoder === true) return generating;
  if (causalTypes.test(modelType)) return 'causal';
  return maskedTypes.test(modelType) ? 'masked' : null;
}
