/** From a row's fields to token ids, slots of pseudo tokens and the position that is read. */

import { PtunedError } from '../errors.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';
import { type AskedLm, type Asking, askingOf, decoderIds } from './asking.ts';
import { afterText, type Before, type Join, joinOf, takesSpace, textOf } from './join.ts';
import { fieldText, type Row, type RowPlace, where } from './place.ts';
import type { Segment, Template } from './schema.ts';
import { cutLongest, spareTokens } from './shorten.ts';
import { encodeTemplateText, initialIds, targetAfterSpace } from './template.ts';
import type { RenderedRow } from './types.ts';

export interface RenderPlan {
  tokenizer: Tokenizer;
  asking: Asking;
  /** Longest sequence the LM takes behind the prefix. */
  maxLength: number;
  /** Tokens that stand before every row as keys and values. */
  prefix: number;
  parts: Part[];
  /** Whether a space stands before the target, so that its word carries the marker. */
  targetAfterSpace: boolean;
  /** Id at a pseudo token's place; the prompt table replaces its embedding. */
  placeholder: number;
  /** What rows begin with, whatever their fields hold. */
  lead: Pick<RenderedRow, 'ids' | 'slots'>;
}

type Piece = { join: Join } & ({ text: string } | { field: string });

type Part =
  /** `words` are the tokens its pseudo tokens start from: what a decoder that repeats the text reads in their place. */
  | { kind: 'virtual'; first: number; count: number; words: number[] }
  /** Neighbouring texts and fields, tokenized as one text; a shortenable field is a run of its own, so that it can be cut. */
  | { kind: 'run'; pieces: Piece[]; shortenable: boolean }
  | { kind: 'target' };

/**
 * Compiles a checked template, pseudo tokens taking rows 0 … n − 1 of the prompt table in template order. Special tokens
 * around the row are the tokenizer's own; `prefix` tokens stand before it as keys and values. How segments are joined is
 * said in join.ts.
 * @throws PtunedError invalid_template when a masked LM has no mask token, template_too_long when fixed parts do not fit
 */
export function compileTemplate(
  template: Template,
  lm: AskedLm & { tokenizer: Tokenizer; maxLength: number },
  prefix = 0,
): RenderPlan {
  const { tokenizer, kind } = lm;
  const maxLength = Math.max(0, lm.maxLength - prefix);
  if (kind === 'masked' && tokenizer.special.mask === null) {
    throw new PtunedError(
      'invalid_template',
      'The tokenizer of this masked LM has no mask token, so no target can be read.',
      { param: 'model' },
    );
  }
  const asking = askingOf(lm, tokenizer);
  const plan: RenderPlan = {
    tokenizer,
    asking,
    maxLength,
    prefix,
    parts: compileParts(template, tokenizer),
    targetAfterSpace: targetAfterSpace(template, tokenizer),
    placeholder: placeholderOf(tokenizer, asking.mark),
    lead: { ids: [], slots: [] },
  };
  const encode = (text: string, afterSpace: boolean) => encodeTemplateText(tokenizer, text, afterSpace);
  const alone = lengthOf(
    plan,
    encodeRuns(plan, () => '', encode),
  );
  if (alone > maxLength) {
    throw new PtunedError(
      'template_too_long',
      `The template alone is ${alone} tokens long; this LM takes at most ${limit(plan)}.`,
      { param: 'template', details: { length: alone, maximum: maxLength } },
    );
  }
  const beginnings = encodeRuns(plan, () => null, encode);
  return { ...plan, lead: leadOf(plan, beginnings) };
}

/** What stands before the first field; its last token may become another one with what follows it. */
function leadOf({ tokenizer, parts, placeholder }: RenderPlan, beginnings: (number[] | null)[]): RenderPlan['lead'] {
  const ids = [...tokenizer.prefix];
  const slots = ids.map(() => -1);
  for (const [i, part] of parts.entries()) {
    if (part.kind === 'target') break;
    if (part.kind === 'virtual') {
      ids.push(...new Array<number>(part.count).fill(placeholder));
      slots.push(...Array.from({ length: part.count }, (_, k) => part.first + k));
      continue;
    }
    const endsInField = part.pieces.some((piece) => 'field' in piece);
    const own = endsInField ? beginnings[i]!.slice(0, -1) : beginnings[i]!;
    ids.push(...own);
    slots.push(...own.map(() => -1));
    if (endsInField) break;
  }
  return { ids, slots };
}

function limit({ maxLength, prefix }: RenderPlan): string {
  return prefix > 0 ? `${maxLength} behind a prefix of ${prefix}` : String(maxLength);
}

function compileParts(template: Template, tokenizer: Tokenizer): Part[] {
  const parts: Part[] = [];
  let first = 0;
  for (const [i, segment] of template.entries()) {
    if ('virtual' in segment) {
      const words = segment.init === undefined ? [] : initialIds(template, i, segment.init, tokenizer);
      parts.push({ kind: 'virtual', first, count: segment.virtual, words });
      first += segment.virtual;
    } else if ('target' in segment) parts.push({ kind: 'target' });
    else {
      const piece = pieceOf(template, i, segment);
      const shortenable = 'field' in segment && segment.shortenable === true;
      const last = parts.at(-1);
      if (last?.kind === 'run' && !last.shortenable && !shortenable) last.pieces.push(piece);
      else parts.push({ kind: 'run', pieces: [piece], shortenable });
    }
  }
  return parts;
}

function pieceOf(
  template: Template,
  i: number,
  segment: Extract<Segment, { text: string } | { field: string }>,
): Piece {
  const join = joinOf(segment);
  return 'text' in segment ? { join, text: textOf(template, i, segment.text) } : { join, field: segment.field };
}

/** Any id that is neither padding (positions may be counted from ids) nor the mask. */
function placeholderOf({ special, vocabularySize }: Tokenizer, mark: number | null): number {
  const reserved = [special.pad, special.mask, mark];
  const usable = (id: number | null): id is number => id !== null && !reserved.includes(id);
  const known = [special.unk, special.cls, special.bos, special.sep].find(usable);
  if (known !== undefined) return known;
  for (let id = 0; id < vocabularySize; id++) if (usable(id)) return id;
  return 0;
}

/**
 * One row as the LM reads it, `label` left at -1. Only shortenable fields are cut, the longest first, from their end.
 * @throws PtunedError invalid_data naming line and field, template_too_long naming line, length and maximum
 */
export function renderRow(plan: RenderPlan, row: Row, place: RowPlace = {}): RenderedRow {
  const encoded = encodeRuns(
    plan,
    (field) => fieldText(row, field, place).trim(),
    (text, afterSpace) => encodeRowText(plan.tokenizer, text, afterSpace, place),
  );
  const cut = shorten(plan, encoded, place);
  const { tokenizer, asking } = plan;
  const ids = [...tokenizer.prefix];
  const slots: number[] = ids.map(() => -1);
  let target = -1;
  const told: number[] = [];
  for (const [i, part] of plan.parts.entries()) {
    if (part.kind === 'target') {
      target = ids.length;
      if (asking.mark !== null) ids.push(asking.mark);
    } else if (part.kind === 'virtual') {
      if (target < 0) told.push(...part.words);
      for (let k = 0; k < part.count; k++) {
        ids.push(plan.placeholder);
        slots.push(part.first + k);
      }
    } else {
      for (const id of encoded[i]!) {
        ids.push(id);
        if (target < 0) told.push(id);
      }
    }
    while (slots.length < ids.length) slots.push(-1);
  }
  if (!asking.isClosed) return endBeforeTarget(plan, ids, slots, cut, place);
  ids.push(...tokenizer.suffix);
  slots.push(...tokenizer.suffix.map(() => -1));
  if (asking.decoder === null) return { ids, slots, target, label: -1, cut };
  const decoder = decoderIds(asking.decoder, told);
  return { ids, slots, target: decoder.length - 1, decoder, label: -1, cut };
}

/** A causal LM reads its target from the last token; where there is none at all, from the token that begins a text. */
function endBeforeTarget(
  { tokenizer: { special } }: RenderPlan,
  ids: number[],
  slots: number[],
  cut: number,
  place: RowPlace,
): RenderedRow {
  if (ids.length === 0) {
    const begin = special.bos ?? special.eos;
    if (begin === null) throw new PtunedError('invalid_data', `${where(place)}Nothing stands before the target.`);
    ids.push(begin);
    slots.push(-1);
  }
  return { ids, slots, target: ids.length - 1, label: -1, cut };
}

/**
 * Ids of each run, null for other parts. Behind a causal LM's target nothing is read.
 * @param textOfField null: the run ends before this field
 */
function encodeRuns(
  plan: RenderPlan,
  textOfField: (field: string) => string | null,
  encode: (text: string, afterSpace: boolean) => number[],
): (number[] | null)[] {
  const { spaceAtStart } = plan.tokenizer;
  let before: Before = 'nothing';
  return plan.parts.map((part) => {
    if (part.kind !== 'run') {
      before = 'something';
      return null;
    }
    let text = '';
    let afterSpace = false;
    for (const piece of part.pieces) {
      const value = 'text' in piece ? piece.text : textOfField(piece.field);
      if (value === null) break;
      if (value === '') continue;
      const space = takesSpace(value, piece.join, before, spaceAtStart);
      if (text === '') afterSpace = space;
      else if (space) text += ' ';
      text += value;
      before = afterText(value, before);
    }
    return encode(text, afterSpace);
  });
}

/** @throws PtunedError invalid_data naming the line when the LM's vocabulary cannot spell the text */
function encodeRowText(tokenizer: Tokenizer, text: string, afterSpace: boolean, place: RowPlace): number[] {
  try {
    return tokenizer.encode(text, { afterSpace });
  } catch (error) {
    if (!(error instanceof PtunedError)) throw error;
    throw new PtunedError(error.code, `${where(place)}${error.message}`, { details: { ...place }, cause: error });
  }
}

/** Tokens of a row. A causal LM's row ends before the target, so neither it nor the suffix is there. */
function lengthOf({ tokenizer, asking, parts }: RenderPlan, encoded: (number[] | null)[]): number {
  const { mark, isClosed } = asking;
  const around = tokenizer.prefix.length + (isClosed ? tokenizer.suffix.length : 0) + (mark === null ? 0 : 1);
  return parts.reduce((sum, part, i) => {
    if (part.kind === 'virtual') return sum + part.count;
    return sum + (encoded[i]?.length ?? 0);
  }, around);
}

/** Cuts the runs in place and returns how many tokens went. */
function shorten(plan: RenderPlan, encoded: (number[] | null)[], place: RowPlace): number {
  const { maxLength } = plan;
  const length = lengthOf(plan, encoded);
  const excess = length - maxLength;
  if (excess <= 0) return 0;
  const shortenable = encoded.filter((ids, i) => {
    const part = plan.parts[i]!;
    return ids !== null && part.kind === 'run' && part.shortenable;
  }) as number[][];
  const spare = spareTokens(shortenable);
  if (spare < excess) {
    const hint =
      shortenable.length === 0
        ? 'No field may be cut; mark long ones with "shortenable": true'
        : `Its shortenable fields have only ${spare} tokens to give`;
    throw new PtunedError(
      'template_too_long',
      `${where(place)}The row is ${length} tokens long; this LM takes at most ${limit(plan)}. ${hint}.`,
      { details: { ...place, length, maximum: maxLength } },
    );
  }
  cutLongest(shortenable, excess);
  return excess;
}
