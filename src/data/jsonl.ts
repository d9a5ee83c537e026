/** Streams the rows of a JSONL file. */
import { createReadStream } from 'node:fs';
import { PtunedError } from '../errors.ts';
import type { Row } from '../tasks/render.ts';

/** Bytes of the longest line that is read. */
export const longestLine = 64 * 1024;

export interface Line {
  /** Counted from 1, empty lines included. */
  line: number;
  value: Row;
}

/**
 * Objects of a JSONL file, one a line. Empty lines, a byte-order mark and CRLF are tolerated.
 * @throws PtunedError invalid_json naming the line, empty_file
 */
export async function* readJsonl(path: string): AsyncGenerator<Line> {
  let number = 0;
  let rows = 0;
  for await (const bytes of lines(path)) {
    number++;
    const text = (number === 1 ? bytes.replace(/^\uFEFF/, '') : bytes).trim();
    if (text === '') continue;
    rows++;
    yield { line: number, value: parse(text, number) };
  }
  if (rows === 0)
    throw new PtunedError('empty_file', 'The file has no rows; at least one line with a JSON object is needed.');
}

/** Words of a plain text file, one a line. @throws PtunedError empty_file */
export async function readWords(path: string): Promise<string[]> {
  const words: string[] = [];
  for await (const line of lines(path)) if (line.trim() !== '') words.push(line.replace(/^\uFEFF/, '').trim());
  if (words.length === 0)
    throw new PtunedError('empty_file', 'The file of allowed words is empty; one word a line is expected.');
  return words;
}

/** Lines without their ends; none is held beyond the limit. */
async function* lines(path: string): AsyncGenerator<string> {
  const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
  let held: Buffer[] = [];
  let length = 0;
  let number = 1;
  const take = (): string => {
    const whole = Buffer.concat(held);
    held = [];
    length = 0;
    try {
      return decoder.decode(whole);
    } catch (error) {
      throw new PtunedError('invalid_json', `Line ${number} is not UTF-8 text.`, {
        details: { line: number },
        cause: error,
      });
    }
  };
  for await (const chunk of createReadStream(path) as AsyncIterable<Buffer>) {
    let start = 0;
    for (let end = chunk.indexOf(10); end >= 0; end = chunk.indexOf(10, start)) {
      held.push(chunk.subarray(start, end));
      checkLength((length += end - start), number);
      yield take();
      number++;
      start = end + 1;
    }
    held.push(chunk.subarray(start));
    checkLength((length += chunk.length - start), number);
  }
  if (length > 0) yield take();
}

function checkLength(length: number, line: number): void {
  if (length <= longestLine) return;
  throw new PtunedError('invalid_json', `Line ${line} is longer than ${longestLine} bytes.`, { details: { line } });
}

function parse(text: string, line: number): Row {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new PtunedError('invalid_json', `Line ${line} is not JSON: ${(error as Error).message}`, {
      details: { line },
      cause: error,
    });
  }
  if (value === null || typeof value !== 'object' || Array.isArray(value)) {
    const found = value === null ? 'null' : Array.isArray(value) ? 'a list' : `a ${typeof value}`;
    throw new PtunedError(
      'invalid_json',
      `Line ${line} is ${found}; a JSON object with the template's fields is expected.`,
      { details: { line } },
    );
  }
  return value as Row;
}
