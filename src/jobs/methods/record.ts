/** What shared code asks of a method. Each method answers in a record of its own; nothing asks for its name. */
import type { ModelManifest } from '../../models/manifest.ts';
import type { PromptPlace } from '../../models/past.ts';
import type { EncoderType } from '../../prompts/schema.ts';
import type { MetricName, Task, Template, VirtualSegment } from '../../tasks/schema.ts';
import type { ResolvedHyperparameters, ResolvedLength } from '../hyperparameters.ts';
import type { RateName } from '../presets.ts';

export type ResolvedTask = Task & { metric: MetricName };

/** What every resolved method has. */
export interface ResolvedCommon {
  template: Template;
  task: ResolvedTask;
  hyperparameters: ResolvedHyperparameters;
}

/** The same of a method that searches. */
export type ResolvedSearch = Omit<ResolvedCommon, 'hyperparameters'> & { hyperparameters: ResolvedLength };

/** Where a row of the prompt table starts that no words are given for. */
export type Start =
  /** At the encoder's own random output, or, beside rows with words, at random. */
  | 'random'
  /** At the mean word embedding where other rows have words, else at the encoder's own random output. */
  | 'mean'
  /** At tokens of the vocabulary drawn with the job's seed. */
  | 'vocabulary'
  /** At the LM's mask token; an LM without one: as vocabulary. */
  | 'mask';

export interface EncoderChoice {
  type: EncoderType;
  layers: number;
  /** Inner width of a projection; null: that of its embedding. */
  hidden: number | null;
}

export interface PromptPlan {
  place: PromptPlace;
  /**
   * Pseudo tokens that stand as keys and values before every row; the template then has none. Null where the pseudo
   * tokens of the template are the prompt.
   */
  prefix: VirtualSegment | null;
  start: Start;
  /** What makes the table from what is trained; null: its rows are words, which are searched. */
  encoder: EncoderChoice | null;
  /** Of a search: tokens that are tried at a step, and training rows they are scored on. */
  search: { candidates: number; rows: number } | null;
}

export interface MethodContext {
  /** Usable rows of the training file. */
  trainRows: number;
  /** Usable rows of the validation file; null: dev is split off the training file. */
  devRows: number | null;
  /** Width of the LM's word embedding. */
  width: number;
}

type Model = Pick<ModelManifest, 'id' | 'kind' | 'inputs'>;

export interface MethodRecord<Given, Resolved> {
  /** The method's own fields with their defaults. @throws PtunedError invalid_request naming a field below `path` */
  resolve(given: Given, context: MethodContext, path: string): Omit<Resolved, keyof ResolvedCommon>;
  plan(method: Resolved): PromptPlan;
  /** Which learning rate of a preset fits what is trained; null: there is no optimizer. */
  rate(method: Omit<Resolved, keyof ResolvedCommon>): RateName | null;
  /** Why it cannot be used with an LM, or null. */
  refuse(model: Model): string | null;
}
