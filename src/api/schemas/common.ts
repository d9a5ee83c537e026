/** Schemas that several routes share. */
import { type Static, type TSchema, Type } from 'typebox';
import { PtunedError } from '../../errors.ts';
import { accepts } from '../describe.ts';

export const ErrorResponse = Type.Object(
  {
    error: Type.Object({
      message: Type.String({ description: 'What was found and what is accepted, with the field, line or op.' }),
      type: Type.String(),
      param: Type.Union([Type.String(), Type.Null()], { description: 'The field that is at fault.' }),
      code: Type.String({ description: 'Stable name of the failure.' }),
    }),
  },
  { title: 'Error', description: 'Every error has this form; the header x-request-id names the request in the log.' },
);

/** The answer 4XX and 5XX of a route. */
export const errors = { '4XX': ErrorResponse, '5XX': ErrorResponse } as const;

export const UnixSeconds = Type.Integer({ description: 'Unix time in seconds.' });

/** Text of a pattern; `accepted` says in words what the pattern lets through, for refusals. */
export const Patterned = (pattern: string, accepted: string, more: { description: string; examples?: string[] }) =>
  Type.String({ pattern, [accepts]: accepted, ...more });

export const nameCharacters = '1 to 64 letters, digits, ".", "_" or "-"';

/** A parsed `limit` is a number from 1 to 100; the pattern lets no other text through. */
export const Limit = Patterned('^([1-9][0-9]?|100)$', 'a whole number from 1 to 100', {
  description: 'Items a page, 1 to 100. Default 20.',
  examples: ['20'],
});

export const After = (what: string) =>
  Type.String({ minLength: 1, maxLength: 300, description: `Id of the last ${what} of the page before.` });

export function parseLimit(limit: string | undefined): number {
  return limit === undefined ? 20 : Number(limit);
}

export const Page = <T extends TSchema>(item: T) =>
  Type.Object({ object: Type.Literal('list'), data: Type.Array(item), has_more: Type.Boolean() });

export interface PageOf<T> {
  object: 'list';
  data: T[];
  has_more: boolean;
}

/** Cuts one page out of a whole list in its final order; an `after` that is not in it is refused. */
export function pageOf<T extends { id: string }>(items: T[], after: string | undefined, limit: number): PageOf<T> {
  const at = after === undefined ? -1 : items.findIndex((item) => item.id === after);
  if (after !== undefined && at < 0) {
    throw new PtunedError('invalid_request', `after is "${after}", which is not in this list.`, { param: 'after' });
  }
  const end = at + 1 + limit;
  return { object: 'list', data: items.slice(at + 1, end), has_more: items.length > end };
}

export const Deleted = (object: string) =>
  Type.Object({ id: Type.String(), object: Type.Literal(object), deleted: Type.Literal(true) });

export type Deleted = Static<ReturnType<typeof Deleted>>;
