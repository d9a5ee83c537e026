/**
 * The safetensors format: 8 bytes header length (little-endian), a JSON header, the tensors' bytes one after the other.
 * The reader allocates only what the file really holds, whatever its header claims.
 */
import { type FileHandle, open } from 'node:fs/promises';
import { PtunedError } from '../errors.ts';

/** Half precision stays raw: the bits of each number as an unsigned 16-bit integer. */
const arrays = {
  F64: Float64Array,
  F32: Float32Array,
  F16: Uint16Array,
  BF16: Uint16Array,
  I64: BigInt64Array,
  I32: Int32Array,
  U8: Uint8Array,
  BOOL: Uint8Array,
} as const;

export type TensorDtype = keyof typeof arrays;
export type TensorData = Float64Array | Float32Array | Uint16Array | BigInt64Array | Int32Array | Uint8Array;

export interface StoredTensor {
  dtype: TensorDtype;
  shape: number[];
  data: TensorData;
}

interface Entry {
  name: string;
  dtype: TensorDtype;
  shape: number[];
  /** Byte range behind the header. */
  begin: number;
  end: number;
}

interface Header {
  entries: Entry[];
  metadata: Record<string, string>;
}

/** The limit of the reference implementation. */
const longestHeader = 100_000_000;

/**
 * Bytes of a safetensors file: tensors ordered by element size and name, so that each begins aligned and the same
 * tensors always give the same bytes. A shape that does not fit its data is a programming error and throws.
 */
export function encodeSafetensors(
  tensors: ReadonlyMap<string, StoredTensor>,
  metadata: Readonly<Record<string, string>> = {},
): Uint8Array {
  const ordered = [...tensors].sort(
    ([a, one], [b, other]) => elementBytes(other.dtype) - elementBytes(one.dtype) || (a < b ? -1 : 1),
  );
  const header: [string, unknown][] = [];
  if (Object.keys(metadata).length > 0) {
    header.push(['__metadata__', Object.fromEntries(Object.entries(metadata).sort(([a], [b]) => (a < b ? -1 : 1)))]);
  }
  let offset = 0;
  for (const [name, { dtype, shape, data }] of ordered) {
    if (name === '__metadata__' || elements(shape) !== data.length) {
      throw new Error(`tensor ${name} [${shape}] cannot be stored: it holds ${data.length} elements`);
    }
    header.push([name, { dtype, shape, data_offsets: [offset, offset + data.byteLength] }]);
    offset += data.byteLength;
  }
  const json = Buffer.from(JSON.stringify(Object.fromEntries(header)));
  const padded = Math.ceil(json.length / 8) * 8;
  const bytes = new Uint8Array(8 + padded + offset);
  bytes.fill(0x20, 8, 8 + padded);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(padded), true);
  bytes.set(json, 8);
  let at = 8 + padded;
  for (const [, { data }] of ordered) {
    bytes.set(new Uint8Array(data.buffer, data.byteOffset, data.byteLength), at);
    at += data.byteLength;
  }
  return bytes;
}

/** Tensors of a file already in memory. Throws damaged_artifact; `source` names the file in the message. */
export function decodeSafetensors(bytes: Uint8Array, source = 'safetensors'): Map<string, StoredTensor> {
  if (bytes.length < 8) throw damaged(source, `${bytes.length} bytes are too short for a header length`);
  const length = headerLength(bytes, bytes.length, source);
  const { entries } = parseHeader(bytes.subarray(8, 8 + length), bytes.length - 8 - length, source);
  const tensors = new Map<string, StoredTensor>();
  for (const entry of entries) {
    const { view, tensor } = allocate(entry);
    view.set(bytes.subarray(8 + length + entry.begin, 8 + length + entry.end));
    tensors.set(entry.name, tensor);
  }
  return tensors;
}

/**
 * Tensors of a file, each read straight into its own array, so memory is the tensors and nothing more.
 * Throws damaged_artifact when the header, a shape or an offset cannot be true, missing_file when there is no file.
 */
export async function readSafetensors(path: string): Promise<Map<string, StoredTensor>> {
  return withFile(path, async (file, header, dataStart) => {
    const tensors = new Map<string, StoredTensor>();
    for (const entry of header.entries) {
      const { view, tensor } = allocate(entry);
      await readFully(file, view, dataStart + entry.begin, path);
      tensors.set(entry.name, tensor);
    }
    return tensors;
  });
}

/** The string pairs of a file's `__metadata__`, without reading tensors. Throws as {@link readSafetensors}. */
export async function readSafetensorsMetadata(path: string): Promise<Record<string, string>> {
  return withFile(path, async (_file, header) => header.metadata);
}

async function withFile<T>(
  path: string,
  use: (file: FileHandle, header: Header, dataStart: number) => Promise<T>,
): Promise<T> {
  const file = await open(path, 'r').catch((cause: NodeJS.ErrnoException) => {
    throw cause.code === 'ENOENT' ? new PtunedError('missing_file', `${path} does not exist.`, { cause }) : cause;
  });
  try {
    const { size } = await file.stat();
    if (size < 8) throw damaged(path, `${size} bytes are too short for a header length`);
    const prefix = new Uint8Array(8);
    await readFully(file, prefix, 0, path);
    const length = headerLength(prefix, size, path);
    const json = new Uint8Array(length);
    await readFully(file, json, 8, path);
    return await use(file, parseHeader(json, size - 8 - length, path), 8 + length);
  } finally {
    await file.close();
  }
}

async function readFully(file: FileHandle, into: Uint8Array, position: number, source: string): Promise<void> {
  for (let done = 0; done < into.length; ) {
    // One read call takes at most 2^31 - 1 bytes.
    const { bytesRead } = await file.read(into, done, Math.min(into.length - done, 1 << 30), position + done);
    if (bytesRead === 0) throw damaged(source, 'it ends before its last tensor');
    done += bytesRead;
  }
}

function headerLength(prefix: Uint8Array, size: number, source: string): number {
  const length = new DataView(prefix.buffer, prefix.byteOffset, 8).getBigUint64(0, true);
  if (length > BigInt(Math.min(longestHeader, size - 8))) {
    throw damaged(source, `its header claims ${length} bytes, the file has ${size}`);
  }
  return Number(length);
}

function parseHeader(json: Uint8Array, dataBytes: number, source: string): Header {
  let header: unknown;
  try {
    header = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(json));
  } catch (cause) {
    throw damaged(source, 'its header is not JSON', cause);
  }
  if (!isObject(header)) throw damaged(source, 'its header is not an object');
  const entries: Entry[] = [];
  let metadata: Record<string, string> = {};
  for (const [name, value] of Object.entries(header)) {
    if (name === '__metadata__') metadata = parseMetadata(value, source);
    else entries.push(parseEntry(name, value, source));
  }
  checkRanges(entries, dataBytes, source);
  return { entries, metadata };
}

function parseMetadata(value: unknown, source: string): Record<string, string> {
  if (!isObject(value) || Object.values(value).some((text) => typeof text !== 'string')) {
    throw damaged(source, '__metadata__ is not an object of strings');
  }
  return value as Record<string, string>;
}

function parseEntry(name: string, value: unknown, source: string): Entry {
  if (!isObject(value)) throw damaged(source, `tensor "${name}" is not described by an object`);
  const { dtype, shape, data_offsets: offsets } = value;
  if (typeof dtype !== 'string' || !Object.hasOwn(arrays, dtype)) {
    throw damaged(
      source,
      `tensor "${name}" has dtype ${JSON.stringify(dtype)}; read: ${Object.keys(arrays).join(', ')}`,
    );
  }
  if (!isSizes(shape)) throw damaged(source, `tensor "${name}" has shape ${JSON.stringify(shape)}`);
  if (!isSizes(offsets) || offsets.length !== 2) {
    throw damaged(source, `tensor "${name}" has data_offsets ${JSON.stringify(offsets)}`);
  }
  const [begin, end] = offsets as [number, number];
  const bytes = elements(shape) * elementBytes(dtype as TensorDtype);
  if (end - begin !== bytes) {
    throw damaged(source, `tensor "${name}" ${dtype} [${shape}] needs ${bytes} bytes and has ${end - begin}`);
  }
  return { name, dtype: dtype as TensorDtype, shape, begin, end };
}

/** Tensors must cover the data without holes or overlaps, so a header can never claim more than the file holds. */
function checkRanges(entries: Entry[], dataBytes: number, source: string): void {
  let at = 0;
  for (const { name, begin, end } of [...entries].sort((a, b) => a.begin - b.begin || a.end - b.end)) {
    if (begin !== at) throw damaged(source, `tensor "${name}" begins at byte ${begin}, ${at} was expected`);
    at = end;
  }
  if (at !== dataBytes) throw damaged(source, `its tensors take ${at} bytes, the file has ${dataBytes} for them`);
}

function allocate(entry: Entry): { view: Uint8Array; tensor: StoredTensor } {
  const buffer = new ArrayBuffer(entry.end - entry.begin);
  const data: TensorData = new arrays[entry.dtype](buffer);
  return { view: new Uint8Array(buffer), tensor: { dtype: entry.dtype, shape: entry.shape, data } };
}

function elementBytes(dtype: TensorDtype): number {
  return arrays[dtype].BYTES_PER_ELEMENT;
}

function elements(shape: readonly number[]): number {
  return shape.reduce((product, size) => product * size, 1);
}

function isSizes(value: unknown): value is number[] {
  return Array.isArray(value) && value.length <= 16 && value.every((size) => Number.isSafeInteger(size) && size >= 0);
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function damaged(source: string, what: string, cause?: unknown): PtunedError {
  return new PtunedError('damaged_artifact', `${source} is damaged: ${what}.`, cause === undefined ? {} : { cause });
}
