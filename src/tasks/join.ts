/**
 * How segments become one text: with a space between them, unless the segment says `join: none`, begins with closing
 * punctuation ("." or "'s"), or stands next to a line break. What stands first in a sequence has a space before it
 * only where the tokenizer puts one before every text (LLaMA, T5). A pseudo token counts as something that stands there.
 */
import type { Segment } from './schema.ts';

export type Join = 'space' | 'none' | undefined;

/** What stands before a segment. */
export type Before = 'nothing' | 'newline' | 'something';

/** Punctuation that belongs to the word before it, and English endings with an apostrophe. */
const closing = /^(?:[.,;:!?%)\]}”’»…]|'(?:s|t|m|d|re|ve|ll)\b)/i;

/** Whether a space goes between what stands before and this text. */
export function takesSpace(text: string, join: Join, before: Before, spaceAtStart: boolean): boolean {
  if (join === 'none') return false;
  if (before === 'nothing') return spaceAtStart;
  if (join === 'space') return true;
  return before === 'something' && !text.startsWith('\n') && !closing.test(text);
}

/** What a text leaves for the next segment. */
export function afterText(text: string, before: Before): Before {
  if (text === '') return before;
  return text.endsWith('\n') ? 'newline' : 'something';
}

export function joinOf(segment: Segment | undefined): Join {
  return segment === undefined || 'virtual' in segment ? undefined : segment.join;
}

/** The text of template segment `index` without the spaces at its ends, which joining supplies; line breaks stay. */
export function textOf(template: readonly Segment[], index: number, text: string): string {
  const keepStart = joinOf(template[index]) === 'none';
  const keepEnd = joinOf(template[index + 1]) === 'none';
  let start = 0;
  let end = text.length;
  while (!keepStart && start < end && isSpace(text[start])) start++;
  while (!keepEnd && end > start && isSpace(text[end - 1])) end--;
  return text.slice(start, end);
}

function isSpace(character: string | undefined): boolean {
  return character === ' ' || character === '\t';
}
