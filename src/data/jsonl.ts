/** Streams the rows of a JSONL file. */
import { PtunedError } from '../errors.ts';
import type { Row } from '../tasks/place.ts';
import { readLines, type Source } from './lines.ts';

export interface Line {
  /** Counted from 1, empty lines included. */
  line: number;
  value: Row;
}

/**
 * Objects of a JSONL file, one a line. Empty lines, a byte-order mark and CRLF are tolerated.
 * @throws PtunedError invalid_json naming the line and, where JSON's parser tells it, the column; empty_file
 */
export async function* readJsonl(source: Source): AsyncGenerator<Line> {
  let rows = 0;
  for await (const { line, text } of readLines(source)) {
    const trimmed = text.trim();
    if (trimmed === '') continue;
    rows++;
    yield { line, value: parse(trimmed, line) };
  }
  if (rows === 0) {
    throw new PtunedError('empty_file', 'The file has no rows; at least one line with a JSON object is needed.');
  }
}

/** Reads a file to its end for its form alone. @throws PtunedError as {@link readJsonl} */
export async function checkJsonl(source: Source): Promise<void> {
  for await (const _ of readJsonl(source));
}

/** Most allowed words, as in the job's schema. */
const mostWords = 200_000;

/** Words of a plain text file, one a line. @throws PtunedError empty_file, invalid_data */
export async function readWords(source: Source): Promise<string[]> {
  const words: string[] = [];
  for await (const { text } of readLines(source)) {
    const word = text.trim();
    if (word === '') continue;
    if (words.length === mostWords) {
      throw new PtunedError('invalid_data', `The file of allowed words has more than ${mostWords} words.`);
    }
    words.push(word);
  }
  if (words.length > 0) return words;
  throw new PtunedError('empty_file', 'The file of allowed words is empty; one word a line is expected.');
}

function parse(text: string, line: number): Row {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    const { message } = error as Error;
    const column = columnOf(message, text);
    const at = column === null ? '' : `, column ${column}`;
    throw new PtunedError('invalid_json', `Line ${line}${at} is not JSON: ${message}.`, {
      details: { line, ...(column === null ? {} : { column }) },
      cause: error,
    });
  }
  if (value !== null && typeof value === 'object' && !Array.isArray(value)) return value as Row;
  const found = value === null ? 'null' : Array.isArray(value) ? 'a list' : `a ${typeof value}`;
  throw new PtunedError(
    'invalid_json',
    `Line ${line} is ${found}; a JSON object with the template's fields is expected.`,
    {
      details: { line },
    },
  );
}

/** Counted from 1. V8 states the position for some mistakes; a text that ends too early is wrong at its end. */
function columnOf(message: string, text: string): number | null {
  const stated = /at position (\d+)/.exec(message);
  if (stated !== null) return Number(stated[1]) + 1;
  return /end of JSON input/.test(message) ? text.length + 1 : null;
}
