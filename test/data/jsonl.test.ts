import assert from 'node:assert/strict';
import { Readable } from 'node:stream';
import { test } from 'node:test';
import fc from 'fast-check';
import { readJsonl, readWords } from '../../src/data/jsonl.ts';
import { longestLine } from '../../src/data/lines.ts';

/** A file in chunks of the given size, so that lines and characters are torn apart. */
function source(content: string | Uint8Array, chunk = 1 << 16): Readable {
  const bytes = Buffer.from(content as string);
  const parts: Buffer[] = [];
  for (let start = 0; start < bytes.length; start += chunk) parts.push(bytes.subarray(start, start + chunk));
  return Readable.from(parts);
}

async function rows(content: string | Uint8Array, chunk?: number): Promise<[number, unknown][]> {
  const found: [number, unknown][] = [];
  for await (const { line, value } of readJsonl(source(content, chunk))) found.push([line, value]);
  return found;
}

test('objects come with their lines; byte-order mark, CRLF and empty lines are tolerated', async () => {
  const text = '\uFEFF{"a": "é"}\r\n\r\n  {"a": 2}\n\n{"a": true}';
  for (const chunk of [1, 2, 7, 1 << 16]) {
    assert.deepEqual(await rows(text, chunk), [
      [1, { a: 'é' }],
      [3, { a: 2 }],
      [5, { a: true }],
    ]);
  }
});

test('what is written is read, however the bytes are cut', async () => {
  const cells = { text: fc.string({ unit: 'binary', maxLength: 20 }), n: fc.integer() };
  const row = fc.record(cells, { noNullPrototype: true });
  await fc.assert(
    fc.asyncProperty(fc.array(row, { minLength: 1 }), fc.integer({ min: 1, max: 40 }), async (values, chunk) => {
      const text = values.map((value) => JSON.stringify(value)).join('\n');
      const found = await rows(text, chunk);
      assert.deepEqual(
        found,
        values.map((value, i) => [i + 1, value]),
      );
    }),
    { numRuns: 100, seed: 2 },
  );
});

test('a broken line is refused with its number and, where known, its column', async () => {
  const refused = (content: string | Uint8Array, message: RegExp, details: object) =>
    assert.rejects(rows(content), { code: 'invalid_json', message, details });
  await refused('{"a": 1}\n{"a": 1,}', /^Line 2, column 9 is not JSON: /, { line: 2, column: 9 });
  await refused('{"a": 1', /^Line 1, column 8 is not JSON: /, { line: 1, column: 8 });
  await refused('\n{"a": x}', /^Line 2 is not JSON: Unexpected token 'x'/, { line: 2 });
  await refused('{"a": 1}\n[1, 2]', /^Line 2 is a list; a JSON object/, { line: 2 });
  await refused('null', /^Line 1 is null/, { line: 1 });
  await refused('"text"', /^Line 1 is a string/, { line: 1 });
  await refused(Uint8Array.of(0x7b, 0xff, 0x7d), /^Line 1 is not UTF-8 text/, { line: 1 });
});

test('a line beyond 64 KiB is refused before it is held', async () => {
  const longest = `{"a": "${'x'.repeat(longestLine - 9)}"}`;
  assert.equal(Buffer.byteLength(longest), longestLine);
  assert.equal((await rows(`${longest}\n${longest}`)).length, 2);
  await assert.rejects(rows(`{"a": 1}\n${longest.replace('x', 'xx')}`), {
    code: 'invalid_json',
    message: /^Line 2 is longer than 65536 bytes/,
  });
  // An endless line: the reader gives up instead of collecting it.
  let chunks = 0;
  async function* endless(): AsyncGenerator<Uint8Array> {
    for (;;) {
      chunks++;
      yield Buffer.alloc(1 << 14, 'x');
    }
  }
  await assert.rejects(
    async () => {
      for await (const _ of readJsonl(endless())) assert.fail('no line ends');
    },
    { code: 'invalid_json' },
  );
  assert.equal(chunks, 5);
});

test('a file without rows is refused', async () => {
  for (const text of ['', '\n \n', '\uFEFF']) {
    await assert.rejects(rows(text), { code: 'empty_file', message: /at least one line/ });
  }
});

test('allowed words come one a line', async () => {
  assert.deepEqual(await readWords(source('\uFEFFParis\r\n\n New York \nRome')), ['Paris', 'New York', 'Rome']);
  await assert.rejects(readWords(source(' \n')), { code: 'empty_file' });
  await assert.rejects(readWords(source('a\n'.repeat(200_001))), {
    code: 'invalid_data',
    message: /more than 200000 words/,
  });
});
