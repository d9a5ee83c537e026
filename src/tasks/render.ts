/** From a row's fields to token ids, slots of pseudo tokens and the position that is read. */
import { PtunedError } from '../errors.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';
import type { Segment, Template } from './schema.ts';
import type { RenderedRow } from './types.ts';

/** Values of a row as JSON has them; numbers and booleans are written as text. */
export type Row = Record<string, unknown>;

export interface RenderPlan {
  tokenizer: Tokenizer;
  kind: 'masked' | 'causal';
  /** Longest sequence the LM takes. */
  maxLength: number;
  parts: Part[];
  /** Whether something stands before the target, so that its word carries the marker for a space. */
  targetAfterSpace: boolean;
}

type Part =
  | { kind: 'virtual'; first: number; count: number }
  | { kind: 'text'; ids: number[] }
  | { kind: 'field'; field: string; shortenable: boolean; afterSpace: boolean }
  | { kind: 'target' };

/** Punctuation that belongs to the word before it. */
const closing = /^[.,;:!?)\]}%'”’…]/;

/**
 * Compiles a checked template. Segments are joined by a space, except text that begins with closing punctuation, and
 * segments with `join: none`; the first word of a sequence has no space before it, a word behind a pseudo token has.
 * @throws PtunedError invalid_template when a masked LM has no mask token, template_too_long when fixed parts do not fit
 */
export function compileTemplate(
  template: Template,
  { tokenizer, kind, maxLength }: { tokenizer: Tokenizer; kind: 'masked' | 'causal'; maxLength: number },
): RenderPlan {
  if (kind === 'masked' && tokenizer.special.mask === null) {
    throw new PtunedError(
      'invalid_template',
      'The tokenizer of this masked LM has no mask token, so no target can be read.',
    );
  }
  let row = 0;
  let targetAfterSpace = false;
  const parts = template.map((segment, i): Part => {
    const afterSpace = i > 0 && !joinsTight(segment);
    if ('virtual' in segment) {
      row += segment.virtual;
      return { kind: 'virtual', first: row - segment.virtual, count: segment.virtual };
    }
    if ('text' in segment) return { kind: 'text', ids: tokenizer.encode(segment.text.trim(), { afterSpace }) };
    if ('field' in segment)
      return { kind: 'field', field: segment.field, shortenable: segment.shortenable ?? false, afterSpace };
    targetAfterSpace = afterSpace;
    return { kind: 'target' };
  });
  const plan = { tokenizer, kind, maxLength, parts, targetAfterSpace };
  checkFixedLength(plan);
  return plan;
}

function joinsTight(segment: Segment): boolean {
  if ('virtual' in segment) return false;
  if (segment.join !== undefined) return segment.join === 'none';
  return 'text' in segment && closing.test(segment.text);
}

function checkFixedLength(plan: RenderPlan): void {
  const length = surrounding(plan).length + plan.parts.reduce((sum, part) => sum + fixedLength(part, plan.kind), 0);
  if (length <= plan.maxLength) return;
  throw new PtunedError(
    'template_too_long',
    `The template alone is ${length} tokens long; this LM takes at most ${plan.maxLength}.`,
    {
      param: 'method.p_tuning.template',
    },
  );
}

function fixedLength(part: Part, kind: RenderPlan['kind']): number {
  if (part.kind === 'virtual') return part.count;
  if (part.kind === 'text') return part.ids.length;
  return part.kind === 'target' && kind === 'masked' ? 1 : 0;
}

/** Special tokens around a sequence; a causal LM goes on from the target, so nothing closes it. */
function surrounding({ tokenizer, kind }: RenderPlan): number[] {
  return kind === 'causal' ? [...tokenizer.prefix] : [...tokenizer.prefix, ...tokenizer.suffix];
}

/** Where a row came from, for messages: `line 12`. */
export interface RowPlace {
  line?: number;
}

/**
 * One row as the LM reads it, `label` left at -1. Only shortenable fields are cut, the longest first, from their end.
 * @throws PtunedError invalid_data naming line and field, template_too_long naming line, length and maximum
 */
export function renderRow(plan: RenderPlan, row: Row, place: RowPlace = {}): RenderedRow {
  const encoded = plan.parts.map((part) =>
    part.kind === 'field' ? encodeField(plan.tokenizer, part, row, place) : null,
  );
  const cut = shorten(plan, encoded, place);
  const { tokenizer, kind } = plan;
  const ids = [...tokenizer.prefix];
  const slots: number[] = ids.map(() => -1);
  let target = -1;
  for (const [i, part] of plan.parts.entries()) {
    if (part.kind === 'virtual') {
      for (let k = 0; k < part.count; k++) {
        ids.push(placeholder(tokenizer));
        slots.push(part.first + k);
      }
      continue;
    }
    if (part.kind === 'target') {
      if (kind === 'causal') break;
      target = ids.length;
      ids.push(tokenizer.special.mask!);
    } else {
      for (const id of part.kind === 'text' ? part.ids : encoded[i]!) ids.push(id);
    }
    while (slots.length < ids.length) slots.push(-1);
  }
  if (kind === 'causal') target = ids.length - 1;
  else for (const id of tokenizer.suffix) append(ids, slots, id);
  if (target < 0) throw new PtunedError('invalid_data', `${where(place)}Nothing stands before the target.`);
  return { ids, slots, target, label: -1, cut };
}

/** Any id that is neither padding (positions may be counted from ids) nor the mask. */
function placeholder({ special }: Tokenizer): number {
  const usable = [special.unk, special.cls, special.bos, special.eos, special.sep].find(
    (id) => id !== null && id !== special.pad && id !== special.mask,
  );
  if (usable !== undefined && usable !== null) return usable;
  return [0, 1, 2].find((id) => id !== special.pad && id !== special.mask)!;
}

function encodeField(
  tokenizer: Tokenizer,
  part: Extract<Part, { kind: 'field' }>,
  row: Row,
  place: RowPlace,
): number[] {
  return tokenizer.encode(fieldText(row, part.field, place).trim(), { afterSpace: part.afterSpace });
}

/** A field's value as text. @throws PtunedError invalid_data naming line and field */
export function fieldText(row: Row, field: string, place: RowPlace = {}): string {
  const value = Object.hasOwn(row, field) ? row[field] : undefined;
  if (typeof value === 'string') return value;
  if (typeof value === 'number' || typeof value === 'boolean') return String(value);
  const found =
    value === undefined
      ? `is missing (found: ${Object.keys(row).slice(0, 20).join(', ') || 'no fields'})`
      : `is ${kindOf(value)}; text, a number or true/false is accepted`;
  throw new PtunedError('invalid_data', `${where(place)}Field "${field}" ${found}.`, {
    param: field,
    details: { ...(place.line === undefined ? {} : { line: place.line }), field },
  });
}

function kindOf(value: unknown): string {
  if (value === null) return 'null';
  return Array.isArray(value) ? 'a list' : `an ${typeof value}`;
}

/** "Line 12: " or nothing. */
export function where(place: RowPlace): string {
  return place.line === undefined ? '' : `Line ${place.line}: `;
}

function shorten(plan: RenderPlan, encoded: (number[] | null)[], place: RowPlace): number {
  const fixed = surrounding(plan).length + plan.parts.reduce((sum, part) => sum + fixedLength(part, plan.kind), 0);
  const length = fixed + encoded.reduce((sum, ids) => sum + (ids?.length ?? 0), 0);
  const excess = length - plan.maxLength;
  if (excess <= 0) return 0;
  const shortenable = encoded.filter((ids, i) => {
    const part = plan.parts[i]!;
    return ids !== null && part.kind === 'field' && part.shortenable;
  }) as number[][];
  const available = shortenable.reduce((sum, ids) => sum + ids.length, 0);
  if (available < excess) {
    throw new PtunedError(
      'template_too_long',
      `${where(place)}The row is ${length} tokens long; this LM takes at most ${plan.maxLength}, and its shortenable fields have only ${available} to give. Mark fields with "shortenable": true.`,
      {
        ...(place.line === undefined ? {} : { details: { line: place.line } }),
      },
    );
  }
  for (let left = excess; left > 0; left--) {
    const longest = shortenable.reduce((a, b) => (b.length > a.length ? b : a));
    longest.pop();
  }
  return excess;
}

function append(ids: number[], slots: number[], id: number): void {
  ids.push(id);
  slots.push(-1);
}
