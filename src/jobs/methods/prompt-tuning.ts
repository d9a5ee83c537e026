/** Prompt tuning: the rows of the prompt table themselves are trained (arXiv 2104.08691). */
import { type Static, Type } from 'typebox';
import { Task, Template } from '../../tasks/schema.ts';
import { Hyperparameters } from '../hyperparameters.ts';
import type { MethodRecord, ResolvedCommon } from './record.ts';

export const Initialization = Type.Union([Type.Literal('vocabulary'), Type.Literal('random')], {
  description:
    'What pseudo tokens start from that have no words (init). vocabulary (default): tokens of the LM drawn with the seed. random: normally distributed numbers, as PEFT does.',
});
export type Initialization = Static<typeof Initialization>;

export const PromptTuning = Type.Object(
  {
    template: Template,
    initialization: Type.Optional(Initialization),
    task: Type.Optional(Task),
    hyperparameters: Type.Optional(Hyperparameters),
  },
  { additionalProperties: false },
);
export type PromptTuning = Static<typeof PromptTuning>;

export interface ResolvedPromptTuning extends ResolvedCommon {
  type: 'prompt_tuning';
  initialization: Initialization;
}

export const promptTuning: MethodRecord<PromptTuning, ResolvedPromptTuning> = {
  resolve: ({ initialization = 'vocabulary' }) => ({ type: 'prompt_tuning', initialization }),
  plan: ({ initialization }) => ({
    place: 'embeddings',
    prefix: null,
    start: initialization,
    encoder: { type: 'embedding', layers: 1, hidden: null },
    search: null,
  }),
  rate: () => 'rows',
  refuse: () => null,
};
