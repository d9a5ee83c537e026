/** Inputs of the query routes as token ids, with everything that is wrong named by its place in the request. */
import { PtunedError } from '../errors.ts';
import { askingOf, decoderIds } from '../tasks/asking.ts';
import { fieldText } from '../tasks/place.ts';
import { renderRow } from '../tasks/render.ts';
import type { RenderedRow } from '../tasks/types.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';
import type { Served, Tuned } from './catalog.ts';
import type { Fields } from './schema.ts';

/**
 * Fields of a template, or `{"text": …}` with one mask token for a base masked LM.
 * @param place where the input stands in the request: `inputs[2]`
 */
export function renderInput(served: Served, fields: Fields, place: string): RenderedRow {
  const { tuned } = served;
  const expected = tuned === null ? ['text'] : tuned.fields;
  const unknown = Object.keys(fields).find((name) => !expected.includes(name));
  if (unknown !== undefined) throw refuseField(`${place}.${unknown}`, unknown === tuned?.target, expected);
  const missing = expected.find((name) => !Object.hasOwn(fields, name));
  if (missing !== undefined) {
    throw invalid(
      `${place}.${missing} is missing; this ${tuned === null ? 'LM' : 'template'} takes ${list(expected)}.`,
      `${place}.${missing}`,
    );
  }
  if (tuned === null) return checked(served, renderMasked(served, fieldText(fields, 'text'), `${place}.text`), place);
  return checked(served, renderTuned(tuned, fields, place), place);
}

/** A text that a causal LM goes on with, or that an encoder-decoder LM answers. */
export function renderText(served: Served, text: string, place: string): RenderedRow {
  const { tokenizer, base } = served;
  const { special } = tokenizer;
  const ids = [...tokenizer.prefix, ...encode(tokenizer, text, tokenizer.spaceAtStart, place)];
  if (base.decoder !== undefined) {
    const { start } = base.decoder;
    return checked(served, { ...plainRow([...ids, ...tokenizer.suffix], start.length - 1), decoder: start }, place);
  }
  const start = special.bos ?? special.eos;
  if (ids.length === 0 && start !== null) ids.push(start);
  if (ids.length === 0) throw invalid(`${place} is empty, and this LM has no token that begins a text.`, place);
  return checked(served, plainRow(ids, ids.length - 1), place);
}

/** Tokens a row may reach; a tuned prompt may have some before it. */
export function longestOf({ base, tuned }: Served): number {
  return tuned?.plan.maxLength ?? base.maxLength;
}

/** Throws template_too_long when a row of `length` tokens and `wanted` generated ones do not fit the LM. */
export function checkLength(served: Served, length: number, wanted: number, place: string): void {
  // The last generated token is not run itself.
  const total = length + Math.max(0, wanted - 1);
  const longest = longestOf(served);
  if (total <= longest) return;
  const found =
    wanted > 1
      ? `${place} has ${length} tokens and max_tokens is ${wanted}, together ${length + wanted}`
      : `${place} is ${length} tokens long`;
  throw new PtunedError('template_too_long', `${found}; "${served.base.id}" takes at most ${longest}.`, {
    param: place,
  });
}

function renderTuned({ plan, fields: expected }: Tuned, fields: Fields, place: string): RenderedRow {
  return placed(place, expected, () => renderRow(plan, fields));
}

function encode(tokenizer: Tokenizer, text: string, afterSpace: boolean, place: string): number[] {
  return placed(place, [], () => tokenizer.encode(text, { afterSpace }));
}

/** What goes wrong while tokenizing is told with its place in the request, and its field where it names one. */
function placed<T>(place: string, fields: readonly string[], work: () => T): T {
  try {
    return work();
  } catch (error) {
    if (!(error instanceof PtunedError)) throw error;
    const param = error.param !== null && fields.includes(error.param) ? `${place}.${error.param}` : place;
    throw new PtunedError(error.code, `${place}: ${error.message}`, { param, details: error.details, cause: error });
  }
}

/** A text with exactly one mask token, which is the target. */
function renderMasked({ tokenizer, base }: Served, text: string, place: string): RenderedRow {
  const { mark: mask, decoder } = askingOf(base, tokenizer);
  if (mask === null) throw invalid(`${place}: the tokenizer of this LM has no mask token.`, place);
  const spelling = tokenizer.token(mask).replace(/^▁/, '');
  const [before, after, ...more] = text.split(spelling);
  if (before === undefined || after === undefined || more.length > 0) {
    throw invalid(`${place} has ${text.split(spelling).length - 1} times ${spelling}; exactly one is accepted.`, place);
  }
  const ids = [...tokenizer.prefix, ...encode(tokenizer, before.trimEnd(), tokenizer.spaceAtStart, place)];
  const target = ids.length;
  ids.push(mask, ...encode(tokenizer, after.trim(), /^\s/.test(after), place), ...tokenizer.suffix);
  const row = plainRow(ids, target);
  if (decoder === null) return row;
  const given = decoderIds(decoder, ids.slice(tokenizer.prefix.length, target));
  return { ...row, target: given.length - 1, decoder: given };
}

function plainRow(ids: number[], target: number): RenderedRow {
  return { ids, slots: ids.map(() => -1), target, label: -1, cut: 0 };
}

/** Ids beyond the embedding would fail the whole batch, so they are refused here. */
function checked(served: Served, row: RenderedRow, place: string): RenderedRow {
  checkLength(served, row.ids.length, 0, place);
  const { base, tokenizer } = served;
  const unknown = row.ids.find((id) => id >= base.vocabularySize);
  if (unknown === undefined) return row;
  throw invalid(
    `${place} has the token ${tokenizer.token(unknown)} (${unknown}); "${base.id}" knows ${base.vocabularySize}.`,
    place,
  );
}

function refuseField(place: string, isTarget: boolean, expected: readonly string[]): PtunedError {
  const why = isTarget ? 'is what the model predicts' : 'is not a known field';
  return invalid(`${place} ${why}; accepted: ${list(expected)}.`, place);
}

function list(names: readonly string[]): string {
  return names.map((name) => `"${name}"`).join(', ') || 'no fields';
}

function invalid(message: string, param: string): PtunedError {
  return new PtunedError('invalid_request', message, { param });
}
