/** AutoPrompt (arXiv 2010.15980): words in the slots, found by gradient-guided search. The discrete baseline. */
import { type Static, Type } from 'typebox';
import { Task, Template } from '../../tasks/schema.ts';
import { SearchHyperparameters } from '../hyperparameters.ts';
import type { MethodRecord, ResolvedSearch } from './record.ts';

export const AutoPrompt = Type.Object(
  {
    template: Template,
    candidates: Type.Optional(
      Type.Integer({
        minimum: 1,
        maximum: 1000,
        description: 'Tokens tried at each step: those of which the gradient promises most. Default 10.',
      }),
    ),
    search_rows: Type.Optional(
      Type.Integer({
        minimum: 1,
        maximum: 100_000,
        description: 'Training rows, drawn with the seed, on which each of them is scored. Default 128.',
      }),
    ),
    task: Type.Optional(Task),
    hyperparameters: Type.Optional(SearchHyperparameters),
  },
  { additionalProperties: false },
);
export type AutoPrompt = Static<typeof AutoPrompt>;

export interface ResolvedAutoPrompt extends ResolvedSearch {
  type: 'autoprompt';
  candidates: number;
  search_rows: number;
}

export const autoPrompt: MethodRecord<AutoPrompt, ResolvedAutoPrompt> = {
  resolve: ({ candidates = 10, search_rows = 128 }) => ({ type: 'autoprompt', candidates, search_rows }),
  plan: ({ candidates, search_rows: rows }) => ({
    place: 'embeddings',
    prefix: null,
    start: 'mask',
    encoder: null,
    search: { candidates, rows },
  }),
  rate: () => null,
  refuse: () => null,
};
