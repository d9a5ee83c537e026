/** Methods by name. A new one is one file with its schema and record, one line here and one in the union of method.ts. */
import type { ResolvedMethod } from '../method.ts';
import { autoPrompt } from './autoprompt.ts';
import { pTuning } from './p-tuning.ts';
import { prefixTuning } from './prefix-tuning.ts';
import { promptTuning } from './prompt-tuning.ts';
import type { MethodRecord, PromptPlan } from './record.ts';

const methods = {
  p_tuning: pTuning,
  prompt_tuning: promptTuning,
  prefix_tuning: prefixTuning,
  autoprompt: autoPrompt,
} satisfies Record<ResolvedMethod['type'], unknown>;

/** A record that takes what belongs to its own type: the type was looked up by it. */
export function recordOf(type: ResolvedMethod['type']): MethodRecord<object, ResolvedMethod> {
  return methods[type] as unknown as MethodRecord<object, ResolvedMethod>;
}

export function planOf(method: ResolvedMethod): PromptPlan {
  return recordOf(method.type).plan(method);
}
