/** Checks a template and says what it holds. Rendering rows is in render.ts. */

import { PtunedError } from '../errors.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';
import { type AskedLm, endsWithTarget } from './asking.ts';
import { afterText, type Before, joinOf, takesSpace, textOf } from './join.ts';
import type { Segment, Template, VirtualSegment } from './schema.ts';

/**
 * `prefix` is the segment that stands as keys and values before the template, which then has no pseudo tokens of its own.
 * @throws PtunedError invalid_template naming what is wrong and what is accepted
 */
export function checkTemplate(template: Template, lm: AskedLm, prefix: VirtualSegment | null = null): void {
  const targets = template.flatMap((segment, i) => ('target' in segment ? [i] : []));
  if (targets.length !== 1) {
    throw refuse(`has ${targets.length} targets; exactly one {"target": field} is accepted`);
  }
  if (virtualTokens(template) === 0 && prefix === null) {
    throw refuse('has no pseudo tokens; at least one {"virtual": n} is needed, they are what is tuned');
  }
  if (virtualTokens(template) > 0 && prefix !== null) {
    throw refuse(
      'has {"virtual": n} segments beside a prefix; prefix_tuning takes none (virtual_tokens is the length of its prefix), p_tuning and prompt_tuning do',
    );
  }
  const reason = endsWithTarget(lm);
  if (reason !== null && targets[0] !== template.length - 1) {
    const after = template.length - 1 - targets[0]!;
    const segments = after === 1 ? '1 segment' : `${after} segments`;
    throw refuse(`goes on behind its target (${segments}); ${reason}`);
  }
  const whole = withPrefix(template, prefix);
  for (const [i, segment] of whole.entries()) {
    const text = 'text' in segment ? segment.text : 'virtual' in segment ? segment.init : undefined;
    if (text === undefined || textOf(whole, i, text) !== '') continue;
    const field = 'text' in segment ? 'text' : 'init';
    throw refuseSegment(i, prefix, (place) => `has only spaces in ${field}${place}; words are accepted`);
  }
  const target = targetField(template);
  if (inputFields(template).includes(target)) {
    throw refuse(`shows the field "${target}" that it asks for; a target's field is accepted in no other segment`);
  }
}

function refuse(what: string): PtunedError {
  return new PtunedError('invalid_template', `The template ${what}.`, { param: 'template' });
}

/** About segment `index` of the template with its prefix in front, which the request calls `init` and counts as no segment. */
function refuseSegment(index: number, prefix: VirtualSegment | null, what: (place: string) => string): PtunedError {
  if (prefix === null) return refuse(what(` (segment ${index + 1})`));
  if (index > 0) return refuse(what(` (segment ${index})`));
  return new PtunedError('invalid_template', `The prefix ${what('')}.`, { param: 'init' });
}

/** The template with the segment in front that stands as keys and values before every row. */
export function withPrefix(template: Template, prefix: VirtualSegment | null): Template {
  return prefix === null ? template : [prefix, ...template];
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

/** Whether the word in the target's place has a space before it. */
export function targetAfterSpace(template: Template, tokenizer: Pick<Tokenizer, 'spaceAtStart'>): boolean {
  const index = template.findIndex((segment) => 'target' in segment);
  return takesSpace('', joinOf(template[index]), beforeSegment(template, index), tokenizer.spaceAtStart);
}

/** As far as the template alone tells: a field is taken for a text that does not end in a line break. */
function beforeSegment(template: Template, index: number): Before {
  const previous = template[index - 1];
  if (previous === undefined) return 'nothing';
  return 'text' in previous ? afterText(textOf(template, index - 1, previous.text), 'something') : 'something';
}

/**
 * The token each pseudo token starts from, in template order: the words of its segment's `init`, one token each, the last
 * word on the last pseudo token, so that the words stand next to what follows as they do in the manual prompt. Null for
 * pseudo tokens without a word (they start from the mean embedding). Null when no segment names words. Those of a
 * `prefix` come first.
 * @throws PtunedError invalid_template when there are more word tokens than pseudo tokens
 */
export function initialTokens(
  template: Template,
  tokenizer: Tokenizer,
  prefix: VirtualSegment | null = null,
): (number | null)[] | null {
  const whole = withPrefix(template, prefix);
  const rows: (number | null)[] = [];
  let named = false;
  for (const [i, segment] of whole.entries()) {
    if (!('virtual' in segment)) continue;
    const ids = segment.init === undefined ? [] : initialIds(whole, i, segment.init, tokenizer);
    if (ids.length > segment.virtual) {
      const tokens = ids.map((id) => tokenizer.token(id)).join(' ');
      throw refuseSegment(
        i,
        prefix,
        (place) =>
          `starts ${segment.virtual} pseudo tokens from "${segment.init}"${place}, which is ${ids.length} tokens of this LM (${tokens}); at most one a pseudo token is accepted`,
      );
    }
    if (ids.length > 0) named = true;
    rows.push(...Array.from({ length: segment.virtual - ids.length }, () => null), ...ids);
  }
  return named ? rows : null;
}

/** Tokens of a segment's `init` in its place. */
export function initialIds(template: Template, index: number, init: string, tokenizer: Tokenizer): number[] {
  const text = textOf(template, index, init);
  const afterSpace = takesSpace(text, undefined, beforeSegment(template, index), tokenizer.spaceAtStart);
  return encodeTemplateText(tokenizer, text, afterSpace);
}

/** Ids of a text of the template. @throws PtunedError invalid_template when the LM's vocabulary cannot spell it */
export function encodeTemplateText(tokenizer: Tokenizer, text: string, afterSpace: boolean): number[] {
  try {
    return tokenizer.encode(text, { afterSpace });
  } catch (error) {
    if (!(error instanceof PtunedError)) throw error;
    throw refuse(`cannot be used with this LM: ${error.message.replace(/\.$/, '')}`);
  }
}

/**
 * The manual prompt: `init` words as text in place of pseudo tokens, pseudo tokens without words left out. Null when no
 * segment names words.
 */
export function manualTemplate(template: Template): Template | null {
  const hasWords = template.some((segment) => 'virtual' in segment && segment.init !== undefined);
  if (!hasWords) return null;
  return template.flatMap((segment): Segment[] => {
    if (!('virtual' in segment)) return [segment];
    return segment.init === undefined ? [] : [{ text: segment.init }];
  });
}
