import assert from 'node:assert/strict';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  decodeSafetensors,
  encodeSafetensors,
  readSafetensors,
  readSafetensorsMetadata,
  type StoredTensor,
} from '../../src/artifacts/safetensors.ts';
import { PtunedError } from '../../src/errors.ts';

/** Written by the reference implementation (Python package safetensors 0.8.0). */
const reference = Buffer.from(
  'OAEAAAAAAAB7Il9fbWV0YWRhdGFfXyI6eyJmb3JtYXQiOiJucCJ9LCJpZHMiOnsiZHR5cGUiOiJJNjQiLCJzaGFwZSI6WzJdLCJkYXRhX29mZnNldHMiOlswLDE2XX0sInciOnsiZHR5cGUiOiJGMzIiLCJzaGFwZSI6WzEsM10sImRhdGFfb2Zmc2V0cyI6WzE2LDI4XX0sInMiOnsiZHR5cGUiOiJJMzIiLCJzaGFwZSI6W10sImRhdGFfb2Zmc2V0cyI6WzI4LDMyXX0sImgiOnsiZHR5cGUiOiJGMTYiLCJzaGFwZSI6WzNdLCJkYXRhX29mZnNldHMiOlszMiwzOF19LCJmbGFncyI6eyJkdHlwZSI6IlU4Iiwic2hhcGUiOlszXSwiZGF0YV9vZmZzZXRzIjpbMzgsNDFdfX0BAAAAAAAAAP7/////////AADAPwAAAMAAAIA+BwAAAAA8ALj/ewEA/w==',
  'base64',
);
const referenceTensors = new Map<string, StoredTensor>([
  ['ids', { dtype: 'I64', shape: [2], data: BigInt64Array.of(1n, -2n) }],
  ['w', { dtype: 'F32', shape: [1, 3], data: Float32Array.of(1.5, -2, 0.25) }],
  ['s', { dtype: 'I32', shape: [], data: Int32Array.of(7) }],
  ['h', { dtype: 'F16', shape: [3], data: Uint16Array.of(0x3c00, 0xb800, 0x7bff) }],
  ['flags', { dtype: 'U8', shape: [3], data: Uint8Array.of(1, 0, 255) }],
]);

async function withDirectory(use: (directory: string) => Promise<void>): Promise<void> {
  const directory = await mkdtemp(join(tmpdir(), 'ptuned-safetensors-'));
  try {
    await use(directory);
  } finally {
    await rm(directory, { recursive: true });
  }
}

const isDamaged = (error: unknown) => error instanceof PtunedError && error.code === 'damaged_artifact';

test('reads what the reference implementation wrote', () => {
  assert.deepEqual(decodeSafetensors(reference), referenceTensors);
});

test('gives back every tensor, from memory and from a file', async () => {
  const dtypes = {
    F32: (n: number) => Float32Array.from({ length: n }, (_, i) => Math.sin(i)),
    F64: (n: number) => Float64Array.from({ length: n }, (_, i) => Math.cos(i)),
    I64: (n: number) => BigInt64Array.from({ length: n }, (_, i) => BigInt(i) - 2n),
    I32: (n: number) => Int32Array.from({ length: n }, (_, i) => i - 3),
    F16: (n: number) => Uint16Array.from({ length: n }, (_, i) => i * 257),
    U8: (n: number) => Uint8Array.from({ length: n }, (_, i) => i),
  };
  const tensor = fc
    .tuple(
      fc.constantFrom(...(Object.keys(dtypes) as (keyof typeof dtypes)[])),
      fc.array(fc.nat({ max: 4 }), { maxLength: 3 }),
    )
    .map(([dtype, shape]): StoredTensor => {
      const length = shape.reduce((product, size) => product * size, 1);
      return { dtype, shape, data: dtypes[dtype](length) };
    });
  const name = fc.string({ minLength: 1, unit: 'grapheme' }).filter((text) => text !== '__metadata__');
  await withDirectory(async (directory) => {
    const path = join(directory, 'x.safetensors');
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.tuple(name, tensor), { maxLength: 6 }),
        fc.dictionary(name, fc.string()),
        async (list, metadata) => {
          const tensors = new Map(list);
          const bytes = encodeSafetensors(tensors, metadata);
          await writeFile(path, bytes);
          const sorted = (map: Map<string, StoredTensor>) => [...map].sort(([a], [b]) => (a < b ? -1 : 1));
          assert.deepEqual(sorted(decodeSafetensors(bytes)), sorted(tensors));
          assert.deepEqual(sorted(await readSafetensors(path)), sorted(tensors));
          assert.deepEqual({ ...(await readSafetensorsMetadata(path)) }, { ...metadata });
        },
      ),
      { numRuns: 100 },
    );
  });
});

test('the same tensors give the same bytes in any order, with aligned data', () => {
  const once = encodeSafetensors(referenceTensors, { b: '2', a: '1' });
  const again = encodeSafetensors(new Map([...referenceTensors].reverse()), { a: '1', b: '2' });
  assert.deepEqual(once, again);
  assert.equal(new DataView(once.buffer).getBigUint64(0, true) % 8n, 0n);
});

test('a shape that does not fit its data is not written', () => {
  assert.throws(() => encodeSafetensors(new Map([['x', { dtype: 'F32', shape: [2, 2], data: new Float32Array(3) }]])));
});

const f32 = (shape: unknown, offsets: unknown, dtype: unknown = 'F32') => ({ dtype, shape, data_offsets: offsets });
const malformed: [what: string, header: unknown, dataBytes: number, names: RegExp][] = [
  ['a header that is a list', [], 0, /not an object/],
  ['a tensor that is a string', { x: 'y' }, 0, /"x"/],
  ['an unknown dtype', { x: f32([1], [0, 4], 'F7') }, 4, /"F7"/],
  ["a dtype of Object's prototype", { x: f32([1], [0, 4], 'constructor') }, 4, /"constructor"/],
  ['a negative size', { x: f32([-1], [0, 4]) }, 4, /shape \[-1\]/],
  ['a fractional size', { x: f32([1.5], [0, 6]) }, 6, /shape/],
  ['a size beyond 2^53', { x: f32([1e20], [0, 4]) }, 4, /shape/],
  ['a product that overflows', { x: f32([2 ** 40, 2 ** 40], [0, 0]) }, 0, /needs/],
  ['offsets outside the file', { x: f32([4], [0, 16]) }, 8, /16 bytes/],
  ['offsets in reverse', { x: f32([1], [8, 4]) }, 8, /needs 4 bytes and has -4/],
  ['one offset', { x: f32([1], [0]) }, 4, /data_offsets/],
  ['a shape larger than its bytes', { x: f32([2], [0, 4]) }, 4, /needs 8 bytes and has 4/],
  ['overlapping tensors', { x: f32([2], [0, 8]), y: f32([2], [4, 12]) }, 12, /"y" begins at byte 4/],
  ['a hole', { x: f32([1], [0, 4]), y: f32([1], [8, 12]) }, 12, /"y" begins at byte 8/],
  ['bytes behind the last tensor', { x: f32([1], [0, 4]) }, 5, /take 4 bytes/],
  ['metadata that is not text', { __metadata__: { a: 1 } }, 0, /__metadata__/],
];
for (const [what, header, dataBytes, names] of malformed) {
  test(`refuses ${what}`, async () => {
    const json = Buffer.from(JSON.stringify(header));
    const prefix = Buffer.alloc(8);
    prefix.writeBigUInt64LE(BigInt(json.length));
    const bytes = Buffer.concat([prefix, json, Buffer.alloc(dataBytes)]);
    const refused = (error: unknown) => isDamaged(error) && names.test((error as Error).message);
    assert.throws(() => decodeSafetensors(bytes), refused);
    await withDirectory(async (directory) => {
      await writeFile(join(directory, 'x'), bytes);
      await assert.rejects(readSafetensors(join(directory, 'x')), refused);
    });
  });
}

test('a header length beyond the file is refused without allocating it', () => {
  for (const claimed of [0xffff_ffff_ffff_ffffn, 1n << 40n, BigInt(reference.length - 7)]) {
    const bytes = Buffer.from(reference);
    bytes.writeBigUInt64LE(claimed);
    assert.throws(() => decodeSafetensors(bytes), isDamaged);
  }
});

test('every truncation is refused; a changed byte is refused or gives tensors of the file, never anything else', () => {
  for (let length = 0; length < reference.length; length++) {
    assert.throws(() => decodeSafetensors(reference.subarray(0, length)), isDamaged);
  }
  for (let at = 0; at < reference.length; at++) {
    for (const bit of [1, 8, 64, 128]) {
      const bytes = Buffer.from(reference);
      bytes[at]! ^= bit;
      try {
        const tensors = decodeSafetensors(bytes);
        const held = [...tensors.values()].reduce((sum, { data }) => sum + data.byteLength, 0);
        assert.equal(held, 41);
      } catch (error) {
        assert.ok(isDamaged(error), String(error));
      }
    }
  }
});

test('a missing file is named', async () => {
  await assert.rejects(
    readSafetensors('/nowhere/x.safetensors'),
    (error) => error instanceof PtunedError && error.code === 'missing_file' && /nowhere/.test(error.message),
  );
});

const fixtures = new URL('../../../shared/fixtures/', import.meta.url).pathname;
test('reads the reference tensors of the fixtures', async (t) => {
  const folders = await readdir(fixtures).catch(() => null);
  if (folders === null) return t.skip('no fixtures beside the project');
  const tensors = await readSafetensors(join(fixtures, 'gpt2', 'reference.safetensors'));
  assert.deepEqual(tensors.get('loss')?.shape, []);
  const { length } = await readFile(join(fixtures, 'gpt2', 'reference.safetensors'));
  assert.ok([...tensors.values()].reduce((sum, { data }) => sum + data.byteLength, 0) < length);
});
