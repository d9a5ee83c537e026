/** Splits a stream of bytes into lines of UTF-8 text; none is held beyond the limit. */
import { createReadStream } from 'node:fs';
import { PtunedError } from '../errors.ts';

/** Path of a file, or its bytes as a stream. */
export type Source = string | AsyncIterable<Uint8Array>;

/** Bytes of the longest line that is read. */
export const longestLine = 64 * 1024;

/**
 * Lines without their ends (LF or CRLF) and without a byte-order mark, numbered from 1. What follows the last line end
 * is a line only if it is not empty.
 * @throws PtunedError invalid_json naming a line that is too long or not UTF-8
 */
export async function* readLines(source: Source): AsyncGenerator<{ line: number; text: string }> {
  const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
  let held: Uint8Array[] = [];
  let length = 0;
  let line = 1;

  function hold(part: Uint8Array): void {
    length += part.length;
    if (length > longestLine) {
      throw new PtunedError(
        'invalid_json',
        `Line ${line} is longer than ${longestLine} bytes, the most that is accepted.`,
        {
          details: { line },
        },
      );
    }
    if (part.length > 0) held.push(part);
  }

  function take(): { line: number; text: string } {
    const bytes = held.length === 1 ? held[0]! : Buffer.concat(held);
    held = [];
    length = 0;
    try {
      const text = decoder.decode(bytes).replace(/\r$/, '');
      return { line, text: line === 1 ? text.replace(/^\uFEFF/, '') : text };
    } catch (error) {
      throw new PtunedError('invalid_json', `Line ${line} is not UTF-8 text.`, { details: { line }, cause: error });
    }
  }

  const chunks = typeof source === 'string' ? (createReadStream(source) as AsyncIterable<Uint8Array>) : source;
  for await (const chunk of chunks) {
    let start = 0;
    for (let end = chunk.indexOf(10); end >= 0; end = chunk.indexOf(10, start)) {
      hold(chunk.subarray(start, end));
      yield take();
      line++;
      start = end + 1;
    }
    hold(chunk.subarray(start));
  }
  if (length > 0) yield take();
}
