/** Checks a template and says what it holds. Rendering rows is in render.ts. */
import { PtunedError } from '../errors.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';
import type { Segment, Template } from './schema.ts';

type Virtual = Extract<Segment, { virtual: number }>;

/** @throws PtunedError invalid_template naming what is wrong and what is accepted */
export function checkTemplate(template: Template, kind: 'masked' | 'causal'): void {
  const targets = template.flatMap((segment, i) => ('target' in segment ? [i] : []));
  if (targets.length !== 1) {
    throw refuse(`has ${targets.length} targets; exactly one {"target": field} is accepted`);
  }
  if (virtualTokens(template) === 0) {
    throw refuse('has no pseudo tokens; at least one {"virtual": n} is needed, they are what is tuned');
  }
  if (kind === 'causal' && targets[0] !== template.length - 1) {
    const after = template.length - 1 - targets[0]!;
    throw refuse(
      `goes on behind its target (${after} segments); for a causal LM the target ends the template, since it is read from what stands before it`,
    );
  }
  if (kind === 'causal' && template.length === 1) throw refuse('has nothing before its target');
}

function refuse(what: string): PtunedError {
  return new PtunedError('invalid_template', `The template ${what}.`, { param: 'method.p_tuning.template' });
}

/** Number of pseudo tokens n. */
export function virtualTokens(template: Template): number {
  return template.reduce((sum, segment) => sum + ('virtual' in segment ? segment.virtual : 0), 0);
}

/** Field that holds the target. */
export function targetField(template: Template): string {
  const segment = template.find((one) => 'target' in one);
  if (segment === undefined || !('target' in segment)) throw refuse('has no target');
  return segment.target;
}

/** Fields a row must have besides the target, without repetition. */
export function inputFields(template: Template): string[] {
  return [...new Set(template.flatMap((segment) => ('field' in segment ? [segment.field] : [])))];
}

/**
 * The token each pseudo token starts from, in template order: the words of its segment's `init`, one token each; null for
 * pseudo tokens beyond the words (they start from the mean embedding). Null when no segment names words.
 * @throws PtunedError invalid_template when there are more word tokens than pseudo tokens
 */
export function initialTokens(template: Template, tokenizer: Tokenizer): (number | null)[] | null {
  const rows: (number | null)[] = [];
  let named = false;
  for (const [i, segment] of template.entries()) {
    if (!('virtual' in segment)) continue;
    const ids = segment.init === undefined ? [] : tokenizer.encode(segment.init.trim(), { afterSpace: i > 0 });
    if (ids.length > segment.virtual) {
      const tokens = ids.map((id) => tokenizer.token(id)).join(' ');
      throw refuse(
        `starts ${segment.virtual} pseudo tokens from "${segment.init}", which is ${ids.length} tokens (${tokens}); at most one a pseudo token is accepted`,
      );
    }
    if (ids.length > 0) named = true;
    rows.push(...ids, ...Array.from({ length: segment.virtual - ids.length }, () => null));
  }
  return named ? rows : null;
}

/** The manual prompt: `init` words as text in place of pseudo tokens, pseudo tokens without words left out. Null when no segment names words. */
export function manualTemplate(template: Template): Template | null {
  const hasWords = template.some((segment) => 'virtual' in segment && segment.init !== undefined);
  if (!hasWords) return null;
  return template.flatMap((segment): Segment[] => {
    if (!('virtual' in segment)) return [segment];
    return textOf(segment);
  });
}

function textOf(segment: Virtual): Segment[] {
  return segment.init === undefined ? [] : [{ text: segment.init }];
}
