/** Tasks: what each makes of a template's target. A new task is one record here and its schema. */
import { PtunedError } from '../errors.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';
import { allowedWords, spell, targetToken, verbalizers, wholeVocabulary } from './candidates.ts';
import { metrics, type Scores } from './metrics.ts';
import type { ClassificationTask, ClozeTask, MetricName, Task } from './schema.ts';
import type { Candidates } from './types.ts';

export interface TaskContext {
  tokenizer: Tokenizer;
  /** Width of the LM's logits. */
  vocabularySize: number;
  /** Whether a space stands before the target. */
  targetAfterSpace: boolean;
  /** Words of allowed_words_file, read by the caller. */
  allowedWords?: readonly string[] | null;
}

/** The right candidate of a target's text, or why it is none. */
export type Label = { index: number } | { refused: 'not_one_token' | 'not_allowed' | 'unknown_label'; message: string };

export interface CompiledTask {
  candidates: Candidates;
  /** Allowed words that are not one token. */
  wordsLeftOut: number;
  labelOf(target: string): Label;
  /** Whether rows whose target is refused are dropped and counted. */
  dropsRefused: boolean;
}

interface TaskRecord<T extends Task> {
  metrics: readonly MetricName[];
  defaultMetric: MetricName;
  compile(task: T, context: TaskContext): CompiledTask;
}

const cloze: TaskRecord<ClozeTask> = {
  metrics: ['p_at_1', 'p_at_10', 'mrr'],
  defaultMetric: 'p_at_1',
  compile(task, context) {
    const { tokenizer, vocabularySize, targetAfterSpace } = context;
    const words = task.allowed_words ?? context.allowedWords ?? null;
    const { candidates, left } =
      words === null
        ? { candidates: wholeVocabulary(vocabularySize, tokenizer), left: 0 }
        : allowedWords(words, tokenizer, targetAfterSpace);
    const index = new Map(Array.from(candidates.ids, (id, i) => [id, i]));
    return {
      candidates,
      wordsLeftOut: left,
      dropsRefused: task.drop_multi_token ?? false,
      labelOf(target) {
        const found = targetToken(tokenizer, target, targetAfterSpace);
        if (!('id' in found)) return refuse('not_one_token', `the target "${target}" is ${spell(found.tokens)}`);
        const at = index.get(found.id);
        return at === undefined
          ? refuse('not_allowed', `the target "${target}" is not among the allowed words`)
          : { index: at };
      },
    };
  },
};

function refuse(refused: 'not_one_token' | 'not_allowed', what: string): Label {
  const accepted = refused === 'not_one_token' ? 'a word that is one known token of this LM is accepted, ' : '';
  return { refused, message: `${what}; ${accepted}drop_multi_token leaves such rows out` };
}

const classification: TaskRecord<ClassificationTask> = {
  metrics: ['accuracy', 'macro_f1'],
  defaultMetric: 'accuracy',
  compile(task, context) {
    const candidates = verbalizers(task, context.tokenizer, context.targetAfterSpace);
    const index = new Map(candidates.names.map((name, i) => [name, i]));
    return {
      candidates,
      wordsLeftOut: 0,
      dropsRefused: false,
      labelOf(target) {
        const at = index.get(target);
        if (at !== undefined) return { index: at };
        return {
          refused: 'unknown_label',
          message: `the label "${target}" is not one of ${candidates.names
            .slice(0, 20)
            .map((name) => `"${name}"`)
            .join(', ')}`,
        };
      },
    };
  },
};

const tasks = { cloze, classification };

/** The task a template has when none is given. */
export const defaultTask: ClozeTask = { type: 'cloze' };

function recordOf(task: Task): TaskRecord<Task> {
  return tasks[task.type] as TaskRecord<Task>;
}

/** @throws PtunedError target_not_one_token, verbalizer_conflict, invalid_request */
export function compileTask(task: Task, context: TaskContext): CompiledTask {
  if (task.type === 'cloze' && task.allowed_words !== undefined && task.allowed_words_file !== undefined) {
    throw new PtunedError('invalid_request', 'Give allowed_words or allowed_words_file, not both.', {
      param: 'task',
    });
  }
  const compiled = recordOf(task).compile(task, context);
  checkVocabulary(compiled.candidates, context);
  return compiled;
}

/** A tokenizer with more tokens than its LM has logits would read beyond them. */
function checkVocabulary({ ids }: Candidates, { tokenizer, vocabularySize }: TaskContext): void {
  const beyond = ids.find((id) => id >= vocabularySize);
  if (beyond === undefined) return;
  throw new PtunedError(
    'target_not_one_token',
    `The token ${tokenizer.token(beyond)} has the id ${beyond}, but this LM scores only ${vocabularySize} tokens.`,
    { param: 'task' },
  );
}

/** The metric that decides on dev. */
export function metricOf(task: Task): MetricName {
  return task.metric ?? recordOf(task).defaultMetric;
}

/** All metrics of a task. */
export function measure(task: Task, scores: Scores): Record<string, number> {
  return Object.fromEntries(recordOf(task).metrics.map((name) => [name, metrics[name](scores)]));
}
