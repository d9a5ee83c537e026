/** Import of a frozen LM: everything that can be wrong with it is found here, before anyone trains on it. */
import { existsSync, readFileSync } from 'node:fs';
import { basename, join, relative, resolve } from 'node:path';
import { valuesOnPath } from '../autodiff/gradient.ts';
import { PtunedError } from '../errors.ts';
import type { ImportOptions, ModelFile, ModelManifest } from '../models/manifest.ts';
import { describeNode, isExternal, type Model, type Node } from '../onnx/ir.ts';
import { opKey } from '../ops/op.ts';
import { rounds } from '../ops/quantize.ts';
import { ops, whyMissing } from '../ops/registry.ts';
import { loadTokenizer, readSpecialTokens } from '../tokenizer/load.ts';
import { assemble, hasDecoder } from './assemble.ts';
import { countsPositions } from './cache.ts';
import { decoderStart } from './decoder-start.ts';
import { feeds } from './feeds.ts';
import { hashFiles, identityOf } from './hash.ts';
import { type Inspected, inspectDirectory } from './inspect.ts';
import { readSteps } from './parts.ts';
import { placeOf, placing } from './place.ts';
import { asRefusal } from './refusal.ts';
import { tryGenerating, tryTraining } from './trial.ts';
import { tryContexts } from './trial-contexts.ts';
import { tryPrefix } from './trial-prefix.ts';
import { weightsOf } from './weights.ts';

/**
 * Reads an LM's folder (layout of the Hugging Face Hub) and yields its manifest. Weights are hashed piece by piece
 * and mapped by onnxruntime, never read into a buffer. Runs in a limited child process: the file may be hostile.
 * @throws PtunedError missing_file, damaged_model, import_refused, unsupported_op
 */
export async function importModel(directory: string, options: ImportOptions = {}): Promise<ModelManifest> {
  const folder = resolve(directory);
  if (!existsSync(folder)) throw new PtunedError('missing_file', `There is no folder ${folder}.`);
  const id = options.id ?? basename(folder);
  if (!/^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$/.test(id)) {
    throw new PtunedError(
      'invalid_request',
      `The id "${id}" is not accepted: letters, digits, ".", "_" and "-", at most 100, a letter or digit first.`,
      { param: 'id' },
    );
  }
  if (!existsSync(join(folder, 'tokenizer.json'))) {
    throw new PtunedError(
      'missing_file',
      `${folder} has no tokenizer.json; save the tokenizer with save_pretrained (fast tokenizer).`,
    );
  }
  try {
    return await imported(folder, id, options);
  } catch (error) {
    throw asRefusal(error);
  }
}

async function imported(folder: string, id: string, options: ImportOptions): Promise<ModelManifest> {
  const inspected = inspectDirectory(folder, options);
  const unwanted = new AbortController();
  const hashing = hashFiles(folder, [...weightFiles(inspected, folder), 'tokenizer.json'], unwanted.signal);
  // Awaited last: until then a failure of it is nobody's.
  hashing.catch(() => {});
  try {
    const path = checkRules(inspected);
    const redundant = await tryTraining(inspected);
    const cached = await tryGenerating(inspected);
    const hasPast = inspected.inputs.some((input) => input.role === 'past');
    const prefixRefusal = hasPast ? await tryPrefix(inspected, id) : null;
    const hasContexts = hasPast && prefixRefusal === null && redundant === 'prefixes';
    return await manifestOf(inspected, folder, id, {
      path,
      redundant,
      prefixRefusal,
      contexts: hasContexts && (await tryContexts({ ...inspected, redundant })),
      cachedDecoder: cached ? await hashFiles(folder, stepFiles(inspected, folder), unwanted.signal) : undefined,
      chosen: options.embedding,
      hashed: await hashing,
    });
  } finally {
    unwanted.abort();
  }
}

interface Findings {
  path: GradientPath;
  redundant: Inspected['redundant'];
  prefixRefusal: string | null;
  contexts: boolean;
  cachedDecoder: ModelFile[] | undefined;
  /** The lookup that was chosen among several. */
  chosen: string | undefined;
  /** The files of its weights, then its tokenizer. */
  hashed: readonly ModelFile[];
}

async function manifestOf(
  inspected: Inspected,
  folder: string,
  id: string,
  { path, redundant, prefixRefusal, contexts, cachedDecoder, chosen, hashed }: Findings,
): Promise<ModelManifest> {
  const files = hashed.slice(0, -1);
  const weights = weightsOf(inspected.model.graph);
  return {
    version: 1,
    id,
    kind: inspected.config.kind,
    architecture: inspected.config.architecture,
    directory: folder,
    graph: inspected.files[0]!.path,
    opset: inspected.opset,
    files,
    hash: identityOf(files, chosen),
    tokenizer: hashed.at(-1)!,
    inputs: [...inspected.inputs],
    logits: inspected.logits,
    embedding: inspected.embedding,
    vocabularySize: inspected.vocabularySize,
    maxLength: maxLength(inspected, folder),
    specialTokens: await readSpecialTokens(folder),
    ...(hasDecoder(inspected)
      ? { decoder: decoderStart(folder, inspected.config.raw, await loadTokenizer(folder)) }
      : {}),
    parameters: weights.parameters,
    weightBytes: weights.bytes,
    gradientPath: path.counts,
    ...(countsPositions(inspected.model.graph) ? { countsPositions: true as const } : {}),
    ...(prefixRefusal === null ? {} : { prefixRefusal }),
    ...(redundant === undefined ? {} : { redundant }),
    ...(contexts ? { contexts } : {}),
    ...(cachedDecoder === undefined ? {} : { cachedDecoder }),
    ...(path.straightThrough.length === 0 ? {} : { straightThrough: path.straightThrough }),
    createdAt: new Date().toISOString(),
  };
}

export interface GradientPath {
  /** Ops between the word embedding and the logits, counted. */
  counts: Record<string, number>;
  /** One node of every op among them that has no gradient rule. */
  missing: Map<string, Node>;
  /** Ops among them whose gradient is straight-through. */
  straightThrough: string[];
}

/** @throws PtunedError unsupported_op for a variant of an op that has no lowering, with its place */
export function gradientPathOf(lm: Inspected): GradientPath {
  const { builder, logits } = placing(lm, () => assemble(lm, { past: 'empty' }));
  const path = valuesOnPath(builder, builder.graph.nodes, [feeds.table]);
  const needed = new Set([logits]);
  const missing = new Map<string, Node>();
  const counts: Record<string, number> = {};
  const rounding = new Set<string>();
  for (const node of [...builder.graph.nodes].reverse()) {
    if (!node.outputs.some((name) => needed.has(name) && path.has(name))) continue;
    for (const name of node.inputs) if (path.has(name)) needed.add(name);
    const key = opKey(node.domain, node.op);
    counts[key] = (counts[key] ?? 0) + 1;
    if (rounds(node)) rounding.add(key);
    if (typeof ops.get(key)?.vjp !== 'function') missing.set(key, node);
  }
  return { counts, missing, straightThrough: [...rounding] };
}

/** {@link gradientPathOf}. @throws PtunedError unsupported_op listing every op without a rule */
function checkRules(lm: Inspected): GradientPath {
  const path = gradientPathOf(lm);
  const { missing } = path;
  if (missing.size > 0) {
    const list = [...missing.values()].map(
      (node) => `${describeNode(node)} (${placeOf(lm, node.name)}${whyMissing(node)})`,
    );
    throw new PtunedError(
      'unsupported_op',
      `Ops between the word embedding and the logits have no gradient rule: ${list.join(', ')}; opset ${lm.opset}.`,
      { details: { ops: [...missing.keys()], opset: lm.opset } },
    );
  }
  return path;
}

/** The graphs and every file its weights are in, relative to the model's folder. */
function weightFiles(lm: Inspected, folder: string): string[] {
  const files = lm.files.map((file) => file.path);
  return [...new Set([...files, ...filesOf(lm.model, relative(folder, lm.graphDirectory))])].sort();
}

/** Files that only the decoder behind a cache needs: none where it is a branch of the decoder that trains. */
function stepFiles(lm: Inspected, folder: string): string[] {
  const inside = relative(folder, lm.graphDirectory);
  const files = [join(inside, lm.steps!.file), ...filesOf(readSteps(lm.graphDirectory, lm.steps!), inside)];
  const known = new Set(weightFiles(lm, folder));
  return [...new Set(files)].filter((file) => !known.has(file)).sort();
}

function filesOf({ graph }: Model, inside: string): string[] {
  return [...graph.initializers.values()].flatMap(({ data }) =>
    isExternal(data) ? [join(inside, data.location)] : [],
  );
}

/** The shortest of what config.json and tokenizer_config.json allow. */
export function maxLength(lm: Inspected, folder: string): number {
  const { raw } = lm.config;
  const stated = [raw.max_position_embeddings, raw.n_positions, raw.max_sequence_length, raw.seq_length]
    .map(Number)
    .find((one) => one > 0);
  const positions = stated === undefined ? Number.POSITIVE_INFINITY : stated - paddingOffset(lm);
  const limits = [positions, tokenizerLimit(folder)].filter((one) => Number.isFinite(one));
  return limits.length === 0 ? 2048 : Math.min(...limits);
}

/** Positions counted from ids (RoBERTa) start behind the padding id: its table has that many rows fewer to give. */
function paddingOffset(lm: Inspected): number {
  const countsIds =
    !lm.inputs.some((input) => input.role === 'position_ids') &&
    lm.model.graph.nodes.some((node) => node.op === 'CumSum');
  const padding = Number(lm.config.raw.pad_token_id);
  return countsIds && lm.config.kind === 'masked' && Number.isInteger(padding) ? padding + 1 : 0;
}

function tokenizerLimit(folder: string): number {
  const path = join(folder, 'tokenizer_config.json');
  if (!existsSync(path)) return Number.POSITIVE_INFINITY;
  const limit = Number((JSON.parse(readFileSync(path, 'utf8')) as { model_max_length?: number }).model_max_length);
  // Tokenizers without a limit state 1e30.
  return limit > 0 && limit < 1e9 ? limit : Number.POSITIVE_INFINITY;
}
