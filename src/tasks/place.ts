/** A row's fields, and where the row came from, for messages. */
import { PtunedError } from '../errors.ts';

/** Values of a row as JSON has them; numbers and booleans are written as text. */
export type Row = Record<string, unknown>;

export interface RowPlace {
  /** Line of a file, counted from 1. */
  line?: number;
}

/** "Line 12: " or nothing. */
export function where(place: RowPlace): string {
  return place.line === undefined ? '' : `Line ${place.line}: `;
}

/** A field's value as text. @throws PtunedError invalid_data naming line and field */
export function fieldText(row: Row, field: string, place: RowPlace = {}): string {
  const value = Object.hasOwn(row, field) ? row[field] : undefined;
  if (typeof value === 'string') return value;
  if (typeof value === 'number' || typeof value === 'boolean') return String(value);
  const found =
    value === undefined
      ? `is missing (found: ${listKeys(row)})`
      : `is ${kindOf(value)}; text, a number or true/false is accepted`;
  throw new PtunedError('invalid_data', `${where(place)}Field "${field}" ${found}.`, {
    param: field,
    details: { ...place, field },
  });
}

function listKeys(row: Row): string {
  const keys = Object.keys(row);
  const shown = keys.slice(0, 20).map((key) => (key.length > 60 ? `${key.slice(0, 60)}…` : key));
  return keys.length === 0 ? 'no fields' : shown.join(', ') + (keys.length > 20 ? ', …' : '');
}

function kindOf(value: unknown): string {
  if (value === null) return 'null';
  return Array.isArray(value) ? 'a list' : `an ${typeof value}`;
}
