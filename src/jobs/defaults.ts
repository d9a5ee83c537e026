/** Fills in what a method leaves open and refuses combinations that contradict themselves. */
import { splitDev } from '../data/batches.ts';
import { promptCompletionTemplate } from '../data/dataset.ts';
import { PtunedError } from '../errors.ts';
import type { EncoderType } from '../prompts/schema.ts';
import { defaultTask, metricOf } from '../tasks/registry.ts';
import type { Task } from '../tasks/schema.ts';
import type { Hyperparameters, Method, PTuning, ResolvedHyperparameters, ResolvedMethod } from './method.ts';
import { presets } from './presets.ts';
import { countStepsPerEpoch } from './steps.ts';

export interface MethodContext {
  /** Usable rows of the training file. */
  trainRows: number;
  /** Usable rows of the validation file; null: dev is split off the training file. */
  devRows: number | null;
  /** Width of the LM's word embedding. */
  width: number;
}

/**
 * The method with nothing left open. Order of precedence: the user's values, the preset's, which is `auto` unless
 * named. Throws invalid_request naming the field when two values cannot go together.
 */
export function resolveMethod(method: Method, context: MethodContext): ResolvedMethod {
  const given: PTuning =
    method.type === 'p_tuning' ? method.p_tuning : { template: promptCompletionTemplate, ...(method.supervised ?? {}) };
  const path = method.type === 'p_tuning' ? 'method.p_tuning' : 'method.supervised';
  return {
    type: 'p_tuning',
    template: given.template,
    encoder: resolveEncoder(given.encoder ?? {}, context.width, path),
    task: resolveTask(given.task ?? defaultTask, path),
    hyperparameters: resolveHyperparameters(given.hyperparameters ?? {}, context, `${path}.hyperparameters`),
  };
}

function resolveEncoder(
  encoder: NonNullable<PTuning['encoder']>,
  width: number,
  path: string,
): ResolvedMethod['encoder'] {
  const type: EncoderType = encoder.type ?? 'lstm';
  if (type !== 'lstm' && encoder.layers !== undefined) {
    throw refuse(`${path}.encoder.layers`, `layers is for encoder type lstm; the type here is ${type}.`);
  }
  if (type === 'lstm' && width % 2 !== 0) {
    throw refuse(
      `${path}.encoder.type`,
      `An lstm encoder needs an even embedding width (half for each direction); this LM has ${width}. Accepted: mlp, embedding.`,
    );
  }
  return { type, layers: encoder.layers ?? 2 };
}

function resolveTask(task: Task, path: string): ResolvedMethod['task'] {
  if (task.type === 'cloze' && task.allowed_words !== undefined && task.allowed_words_file !== undefined) {
    throw refuse(`${path}.task.allowed_words_file`, 'Give allowed_words or allowed_words_file, not both.');
  }
  // The schema ties each metric to its task; spreading a union loses that.
  return { ...task, metric: metricOf(task) } as ResolvedMethod['task'];
}

function resolveHyperparameters(given: Hyperparameters, context: MethodContext, path: string): ResolvedHyperparameters {
  const preset = presets[given.preset ?? 'auto'];
  const { trainRows, devRows } = splitRows(context);
  const explicit = withoutAuto(given);
  const batchSize = explicit.batch_size ?? preset.batchSize(trainRows);
  if (explicit.drop_last === true && batchSize > trainRows) {
    throw refuse(
      `${path}.drop_last`,
      `drop_last would drop every row: the batch size is ${batchSize} and ${trainRows} rows are trained on.`,
    );
  }
  const stepsPerEpoch = countStepsPerEpoch(trainRows, batchSize, explicit.drop_last ?? false);
  const chosen = preset.choose({ trainRows, devRows, batchSize, stepsPerEpoch });
  const resolved: ResolvedHyperparameters = {
    ...chosen,
    ...explicit,
    batch_size: batchSize,
    preset: given.preset ?? 'auto',
  };
  // A length the user gave is the whole length: the preset's other limit must not cut it short.
  if (explicit.n_epochs !== undefined && explicit.max_steps === undefined) resolved.max_steps = null;
  if (explicit.max_steps && explicit.n_epochs === undefined) {
    resolved.n_epochs = Math.ceil(explicit.max_steps / countStepsPerEpoch(trainRows, batchSize, resolved.drop_last));
  }
  if (resolved.schedule !== 'exponential') resolved.gamma = 1;
  if (explicit.gamma !== undefined && resolved.schedule !== 'exponential') {
    throw refuse(`${path}.gamma`, `gamma is for schedule exponential; the schedule here is ${resolved.schedule}.`);
  }
  return resolved;
}

function splitRows({ trainRows, devRows }: MethodContext): { trainRows: number; devRows: number } {
  if (devRows !== null) return { trainRows, devRows };
  const { train, dev } = splitDev(trainRows, 0);
  if (train.length > 0) return { trainRows: train.length, devRows: dev.length };
  throw refuse(
    'training_file',
    `${trainRows} usable row cannot be split; without validation_file at least 2 are needed.`,
  );
}

type Explicit = Omit<Partial<ResolvedHyperparameters>, 'preset'>;

/** The user's values without `auto`, which leaves a field to the preset. */
function withoutAuto({ preset: _preset, ...given }: Hyperparameters): Explicit {
  return Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined && value !== 'auto'));
}

function refuse(param: string, message: string): PtunedError {
  return new PtunedError('invalid_request', `${param}: ${message}`, { param });
}
