/** Everything about a job that can fail without training fails here, before a job exists. */
import { randomBytes } from 'node:crypto';
import { splitDev } from '../data/batches.ts';
import {
  checkDataset,
  type DatasetPlan,
  type DatasetSummary,
  planDataset,
  promptCompletionTemplate,
} from '../data/dataset.ts';
import type { FileStore } from '../data/files.ts';
import { readWords } from '../data/jsonl.ts';
import { PtunedError } from '../errors.ts';
import type { ModelManifest } from '../models/manifest.ts';
import type { ModelRegistry } from '../models/registry.ts';
import { initialTokens } from '../tasks/template.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';
import type { JobSpec } from './contract.ts';
import { methodPath, resolveMethod } from './defaults.ts';
import type { Method, ResolvedMethod } from './method.ts';
import { planOf, recordOf } from './methods/registry.ts';

/** A job as a user asks for it; null is the same as left out. */
export interface JobRequest {
  model: string;
  training_file: string;
  validation_file?: string | null;
  test_file?: string | null;
  suffix?: string | null;
  seed?: number | null;
  metadata?: Record<string, string> | null;
  method?: Method;
}

/** What was found on the way. */
export interface JobFindings {
  kind: ModelManifest['kind'];
  /** By file, null where none was given. */
  files: { training: DatasetSummary; validation: DatasetSummary | null; test: DatasetSummary | null };
  /** Rows that are trained on and rows that are scored, after dev was split off where no file was given. */
  trainRows: number;
  devRows: number;
  /** Words or labels the target is chosen among, and allowed words left out because they are not one token. */
  candidates: number;
  wordsLeftOut: number;
  /** Whether the template names words, so that a manual prompt is scored too. */
  hasManualPrompt: boolean;
}

export interface ValidJob {
  spec: JobSpec;
  findings: JobFindings;
}

/**
 * Checks a job completely: model, files with every row, template, task, hyperparameters.
 * Throws model_not_found, file_not_found, and 400 failures that name the field, and for data the file and line.
 */
export type JobValidator = (request: JobRequest, owner: string) => Promise<ValidJob>;

export interface JobValidatorOptions {
  models: Pick<ModelRegistry, 'get'>;
  files: Pick<FileStore, 'get' | 'path'>;
  loadTokenizer(directory: string): Promise<Tokenizer>;
}

/** The paper's. */
const defaultSeed = 34;

export function createJobValidator({ models, files, loadTokenizer }: JobValidatorOptions): JobValidator {
  const tokenizerOf = cacheTokenizers(loadTokenizer);

  async function findModel(id: string): Promise<ModelManifest> {
    if (id.startsWith('ft:')) {
      const message = `model is "${id}", a tuned prompt; accepted: the id of a base LM (GET /v1/models lists them).`;
      throw new PtunedError('invalid_request', message, { param: 'model' });
    }
    const model = await models.get(id);
    if (model !== null) return model;
    throw new PtunedError('model_not_found', `There is no model "${id}"; GET /v1/models lists those there are.`, {
      param: 'model',
    });
  }

  async function pathOf(id: string, owner: string, param: string): Promise<string> {
    if ((await files.get(id, owner)) !== null) return files.path(id);
    throw new PtunedError('file_not_found', `There is no file "${id}"; upload it with POST /v1/files first.`, {
      param,
    });
  }

  return async (request, owner) => {
    const model = await findModel(request.model);
    const paths: Record<FileField, string | null> = {
      training_file: await pathOf(request.training_file, owner, 'training_file'),
      validation_file: request.validation_file ? await pathOf(request.validation_file, owner, 'validation_file') : null,
      test_file: request.test_file ? await pathOf(request.test_file, owner, 'test_file') : null,
    };
    const method = request.method ?? { type: 'supervised' };
    const seed = request.seed ?? defaultSeed;
    // Template and task do not depend on the number of rows, which is known only once the rows are read through them.
    const draft = resolveMethod(method, { ...contextOf(model), trainRows: 1 << 30, devRows: 1 });
    const path = methodPath(method);
    checkModel(model, draft, path);
    const { allowed_words_file: wordsFile } = draft.task as { allowed_words_file?: string };
    const wordsField = `${path}.task.allowed_words_file`;
    const wordsPath = wordsFile === undefined ? null : await pathOf(wordsFile, owner, wordsField);
    const words = wordsPath === null ? null : await naming(wordsField, () => readWords(wordsPath));
    const plan = planJob(model, await tokenizerOf(model), draft, words, path);

    const hint = draft.template === promptCompletionTemplate ? defaultTemplateHint : '';
    const check = (field: FileField, path: string) => naming(field, () => checkDataset(path, plan), hint);
    const training = await check('training_file', paths.training_file!);
    const validation = paths.validation_file && (await check('validation_file', paths.validation_file));
    const test = paths.test_file && (await check('test_file', paths.test_file));
    const rows = validation ? { trainRows: training.used, devRows: validation.used } : splitRows(training.used, seed);
    return {
      spec: createSpec(request, owner, model, seed, resolveMethod(method, { ...contextOf(model), ...rows })),
      findings: {
        kind: model.kind,
        files: { training, validation: validation || null, test: test || null },
        ...rows,
        candidates: plan.task.candidates.count,
        wordsLeftOut: plan.task.wordsLeftOut,
        hasManualPrompt: plan.manual !== null,
      },
    };
  };
}

type FileField = 'training_file' | 'validation_file' | 'test_file';

function contextOf(model: ModelManifest) {
  return { kind: model.kind, width: model.embedding.width };
}

/** Refuses an LM that the method cannot be used with. */
function checkModel(model: ModelManifest, { type }: ResolvedMethod, path: string): void {
  const refusal = recordOf(type).refuse(model);
  if (refusal === null) return;
  throw new PtunedError('wrong_model_kind', `${path} cannot be used with this model: ${refusal}.`, { param: 'model' });
}

/** Compiles template and task as the worker will; what is wrong with them is told with its place in the request. */
function planJob(
  model: ModelManifest,
  tokenizer: Tokenizer,
  method: ResolvedMethod,
  allowedWords: string[] | null,
  path: string,
): DatasetPlan {
  const { template, task } = method;
  const { prefix } = planOf(method);
  try {
    const plan = planDataset({ model, tokenizer, template, prefix, task, allowedWords });
    initialTokens(template, tokenizer, prefix);
    return plan;
  } catch (error) {
    if (!(error instanceof PtunedError) || error.param === 'model' || error.param === null) throw error;
    const { code, message, details, param } = error;
    throw new PtunedError(code, message, { param: `${path}.${param}`, details, cause: error });
  }
}

/** For rows that lack a field, where nobody has said which fields they have. */
const defaultTemplateHint =
  ' Without a template rows have "prompt" and "completion"; method.p_tuning.template takes fields of other names.';

/** Says which file of the request a failure is about; the row's line and field stay in the message. */
async function naming<T>(param: string, work: () => Promise<T>, hint = ''): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') {
      throw new PtunedError('file_not_found', `${param}: the file was deleted meanwhile.`, { param });
    }
    if (!(error instanceof PtunedError)) throw error;
    const more = error.code === 'invalid_data' ? hint : '';
    const message = `${param}: ${error.message}${more}`;
    throw new PtunedError(error.code, message, { param, details: error.details, cause: error });
  }
}

function splitRows(used: number, seed: number): { trainRows: number; devRows: number } {
  const { train, dev } = splitDev(used, seed);
  if (train.length > 0) return { trainRows: train.length, devRows: dev.length };
  const message = `training_file: ${used} usable row; without a validation file at least 2 are needed, one of them to score.`;
  throw new PtunedError('invalid_data', message, { param: 'training_file' });
}

function createSpec(
  request: JobRequest,
  owner: string,
  model: ModelManifest,
  seed: number,
  method: ResolvedMethod,
): JobSpec {
  const unique = randomBytes(12).toString('hex');
  const suffix = request.suffix ?? null;
  return {
    id: `ftjob-${unique}`,
    owner,
    createdAt: Math.floor(Date.now() / 1000),
    model: model.id,
    modelHash: model.hash,
    trainingFile: request.training_file,
    validationFile: request.validation_file ?? null,
    testFile: request.test_file ?? null,
    suffix,
    seed,
    metadata: request.metadata ?? {},
    method,
    fineTunedModel: `ft:${model.id}:${owner}:${suffix ?? ''}:${unique.slice(0, 8)}`,
  };
}

/** Keeps the tokenizers of the last few LMs: a big tokenizer.json takes a second to load. */
function cacheTokenizers(
  load: (directory: string) => Promise<Tokenizer>,
): (model: ModelManifest) => Promise<Tokenizer> {
  const kept = new Map<string, Promise<Tokenizer>>();
  return (model) => {
    const name = `${model.directory}\n${model.tokenizer.sha256}`;
    const tokenizer = kept.get(name) ?? load(model.directory);
    kept.delete(name);
    kept.set(name, tokenizer);
    tokenizer.catch(() => kept.delete(name));
    if (kept.size > 4) kept.delete(kept.keys().next().value!);
    return tokenizer;
  };
}
