/** Fills in what a method leaves open and refuses combinations that contradict themselves. */
import { splitDev } from '../data/batches.ts';
import { promptCompletionTemplate } from '../data/dataset.ts';
import { PtunedError } from '../errors.ts';
import { defaultTask, metricOf } from '../tasks/registry.ts';
import type { Task, Template } from '../tasks/schema.ts';
import type { Hyperparameters, ResolvedHyperparameters, ResolvedLength } from './hyperparameters.ts';
import type { Method, ResolvedMethod } from './method.ts';
import type { MethodContext, ResolvedTask } from './methods/record.ts';
import { recordOf } from './methods/registry.ts';
import { presets, type RateName, type Sizes, searchLength } from './presets.ts';
import { countStepsPerEpoch } from './steps.ts';

/** What every method may be given. */
interface Given {
  template: Template;
  task?: Task;
  hyperparameters?: Hyperparameters;
}

/**
 * The method with nothing left open. Order of precedence: the user's values, the preset's, which is `auto` unless
 * named. Throws invalid_request naming the field when two values cannot go together.
 */
export function resolveMethod(method: Method, context: MethodContext): ResolvedMethod {
  const { type, given } = givenOf(method);
  const path = methodPath(method);
  const record = recordOf(type);
  const own = record.resolve(given, context, path);
  const rate = record.rate(own);
  const options = given.hyperparameters ?? {};
  const where = `${path}.hyperparameters`;
  const hyperparameters =
    rate === null ? resolveLength(options, context, where) : resolveHyperparameters(options, rate, context, where);
  // Own fields and hyperparameters come from the same record; a lookup by type loses that.
  return {
    ...own,
    template: given.template,
    task: resolveTask(given.task ?? defaultTask, path),
    hyperparameters,
  } as ResolvedMethod;
}

/** Where the fields of a method stand in the request. */
export function methodPath({ type }: Method): string {
  return `method.${type}`;
}

/** `supervised` is p_tuning of rows in OpenAI's prompt/completion form. */
function givenOf(method: Method): { type: ResolvedMethod['type']; given: Given } {
  if (method.type === 'supervised') {
    return { type: 'p_tuning', given: { template: promptCompletionTemplate, ...method.supervised } };
  }
  return { type: method.type, given: (method as unknown as Record<string, Given>)[method.type]! };
}

function resolveTask(task: Task, path: string): ResolvedTask {
  if (task.type === 'cloze' && task.allowed_words !== undefined && task.allowed_words_file !== undefined) {
    throw refuse(`${path}.task.allowed_words_file`, 'Give allowed_words or allowed_words_file, not both.');
  }
  // The schema ties each metric to its task; spreading a union loses that.
  return { ...task, metric: metricOf(task) } as ResolvedTask;
}

function resolveHyperparameters(
  given: Hyperparameters,
  rate: RateName,
  context: MethodContext,
  path: string,
): ResolvedHyperparameters {
  const preset = presets[given.preset ?? 'auto'];
  const { sizes, explicit } = measure(given, preset.batchSize, context, path);
  const chosen = { ...preset.choose(sizes), learning_rate: preset.learningRates[rate] };
  const resolved = settleLength({ ...chosen, ...explicit, preset: given.preset ?? 'auto' }, explicit, sizes);
  if (resolved.schedule !== 'exponential') resolved.gamma = 1;
  if (explicit.gamma !== undefined && resolved.schedule !== 'exponential') {
    throw refuse(`${path}.gamma`, `gamma is for schedule exponential; the schedule here is ${resolved.schedule}.`);
  }
  return resolved;
}

function resolveLength(given: Hyperparameters, context: MethodContext, path: string): ResolvedLength {
  const { sizes, explicit } = measure(given, presets.auto.batchSize, context, path);
  return settleLength({ ...searchLength(sizes), ...explicit, preset: 'auto' }, explicit, sizes);
}

/** The user's values without `auto`, the batch size, and what it makes of the data. */
function measure(
  given: Hyperparameters,
  batchSizeOf: (trainRows: number) => number,
  context: MethodContext,
  path: string,
) {
  const { trainRows, devRows } = splitRows(context);
  const explicit = withoutAuto(given);
  const batchSize = explicit.batch_size ?? batchSizeOf(trainRows);
  if (explicit.drop_last === true && batchSize > trainRows) {
    throw refuse(
      `${path}.drop_last`,
      `drop_last would drop every row: the batch size is ${batchSize} and ${trainRows} rows are trained on.`,
    );
  }
  const stepsPerEpoch = countStepsPerEpoch(trainRows, batchSize, explicit.drop_last ?? false);
  return { explicit, sizes: { trainRows, devRows, batchSize, stepsPerEpoch } };
}

/** A length the user gave is the whole length: the preset's other limit must not cut it short. */
function settleLength<T extends Omit<ResolvedLength, 'batch_size'>>(
  chosen: T,
  explicit: Explicit,
  { trainRows, batchSize }: Sizes,
): T & { batch_size: number } {
  const resolved = { ...chosen, batch_size: batchSize };
  if (explicit.n_epochs !== undefined && explicit.max_steps === undefined) resolved.max_steps = null;
  if (explicit.max_steps && explicit.n_epochs === undefined) {
    resolved.n_epochs = Math.ceil(explicit.max_steps / countStepsPerEpoch(trainRows, batchSize, resolved.drop_last));
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

/** `auto` leaves a field to the preset. */
function withoutAuto({ preset: _preset, ...given }: Hyperparameters): Explicit {
  return Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined && value !== 'auto'));
}

function refuse(param: string, message: string): PtunedError {
  return new PtunedError('invalid_request', `${param}: ${message}`, { param });
}
