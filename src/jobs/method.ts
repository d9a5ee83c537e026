/** The `method` of a fine-tuning job: the schema of every method there is, and the form with every default resolved. */
import { type Static, Type } from 'typebox';
import { Hyperparameters } from './hyperparameters.ts';
import { AutoPrompt, type ResolvedAutoPrompt } from './methods/autoprompt.ts';
import { PTuning, type ResolvedPTuning } from './methods/p-tuning.ts';
import { PrefixTuning, type ResolvedPrefixTuning } from './methods/prefix-tuning.ts';
import { PromptTuning, type ResolvedPromptTuning } from './methods/prompt-tuning.ts';

const closed = { additionalProperties: false };

/** `supervised` is what the OpenAI SDK's types know; it means p_tuning with defaults. */
export const Method = Type.Union([
  Type.Object({ type: Type.Literal('p_tuning'), p_tuning: PTuning }, closed),
  Type.Object({ type: Type.Literal('prompt_tuning'), prompt_tuning: PromptTuning }, closed),
  Type.Object({ type: Type.Literal('prefix_tuning'), prefix_tuning: PrefixTuning }, closed),
  Type.Object({ type: Type.Literal('autoprompt'), autoprompt: AutoPrompt }, closed),
  Type.Object(
    {
      type: Type.Literal('supervised'),
      supervised: Type.Optional(Type.Object({ hyperparameters: Type.Optional(Hyperparameters) }, closed)),
    },
    closed,
  ),
]);

export type Method = Static<typeof Method>;
export type ResolvedMethod = ResolvedPTuning | ResolvedPromptTuning | ResolvedPrefixTuning | ResolvedAutoPrompt;
