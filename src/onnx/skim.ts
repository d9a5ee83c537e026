/**
 * Reads an ONNX file without its weights. Every raw_data field above a threshold is left in the file and replaced by an
 * external_data reference to its place there, so memory and time depend on the graph, not on the parameters.
 */
import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { BinaryWriter, WireType } from '@bufbuild/protobuf/wire';
import { PtunedError } from '../errors.ts';

/** raw_data of at least this many bytes stays in the file. */
const threshold = 1024;

type Message = 'model' | 'graph' | 'node' | 'attribute' | 'tensor';

/** Which length-delimited fields can hold weights further down: field number to message. */
const descend: Record<Message, Record<number, Message>> = {
  model: { 7: 'graph' },
  graph: { 1: 'node', 5: 'tensor' },
  node: { 5: 'attribute' },
  attribute: { 5: 'tensor', 6: 'graph', 10: 'tensor', 11: 'graph' },
  tensor: {},
};
const rawDataField = 9;

/**
 * A serialized ModelProto equal to the file's but for large raw_data.
 * @param location how the file is named in external_data entries (relative to the model's directory)
 * @throws PtunedError damaged_model naming the byte where the file stops making sense
 */
export function skimModel(path: string, location: string): Uint8Array {
  const descriptor = openSync(path, 'r');
  try {
    const file = fileReader(descriptor, path);
    return copyMessage(file, 'model', 0, file.size, location, 0);
  } finally {
    closeSync(descriptor);
  }
}

interface FileReader {
  size: number;
  bytes(offset: number, length: number): Uint8Array;
}

function fileReader(descriptor: number, path: string): FileReader {
  const size = fstatSync(descriptor).size;
  const windowSize = 1 << 16;
  let window: Uint8Array = new Uint8Array(0);
  let windowStart = 0;
  const read = (offset: number, length: number): Uint8Array => {
    const buffer = Buffer.alloc(length);
    let done = 0;
    while (done < length) {
      const count = readSync(descriptor, buffer, done, length - done, offset + done);
      if (count === 0) throw damaged(path, offset + done, 'the file ends early');
      done += count;
    }
    return buffer;
  };
  return {
    size,
    bytes(offset, length) {
      if (length > windowSize) return read(offset, length);
      if (offset < windowStart || offset + length > windowStart + window.length) {
        window = read(offset, Math.min(windowSize, size - offset));
        windowStart = offset;
      }
      return window.subarray(offset - windowStart, offset - windowStart + length);
    },
  };
}

function damaged(path: string, offset: number, what: string): PtunedError {
  return new PtunedError('damaged_model', `${path} is not a whole ONNX file: ${what} (byte ${offset}).`);
}

function copyMessage(
  file: FileReader,
  message: Message,
  start: number,
  end: number,
  location: string,
  depth: number,
): Uint8Array {
  if (end - start < threshold) return file.bytes(start, end - start).slice();
  if (depth > 32) throw damaged(location, start, 'graphs are nested more than 32 deep');
  const writer = new BinaryWriter();
  let reference: { location: string; offset: number; length: number } | null = null;
  let at = start;
  while (at < end) {
    const [tag, afterTag] = varint(file, at, end, location);
    const field = Math.floor(tag / 8);
    const wireType = tag % 8;
    if (wireType !== WireType.LengthDelimited) {
      const next = skipScalar(file, wireType, afterTag, end, location);
      writer.raw(file.bytes(at, next - at).slice());
      at = next;
      continue;
    }
    const [length, body] = varint(file, afterTag, end, location);
    if (body + length > end)
      throw damaged(location, at, `field ${field} of a ${message} claims ${length} bytes, ${end - body} are left`);
    const inner = descend[message][field];
    if (message === 'tensor' && field === rawDataField && length >= threshold) {
      reference = { location, offset: body, length };
    } else if (inner === undefined) {
      writer.raw(file.bytes(at, body + length - at).slice());
    } else {
      writer
        .tag(field, WireType.LengthDelimited)
        .bytes(copyMessage(file, inner, body, body + length, location, depth + 1));
    }
    at = body + length;
  }
  // Last, since of a field that is there twice the last counts: tools write data_location also where it says "here".
  if (reference !== null) writeReference(writer, reference);
  return writer.finish();
}

/** external_data entries (field 13) and data_location EXTERNAL (field 14) of a TensorProto. */
function writeReference(writer: BinaryWriter, reference: { location: string; offset: number; length: number }): void {
  for (const [key, value] of Object.entries(reference)) {
    writer.tag(13, WireType.LengthDelimited).fork();
    writer.tag(1, WireType.LengthDelimited).string(key);
    writer.tag(2, WireType.LengthDelimited).string(String(value));
    writer.join();
  }
  writer.tag(14, WireType.Varint).int32(1);
}

function varint(file: FileReader, at: number, end: number, location: string): [value: number, next: number] {
  let value = 0;
  let scale = 1;
  for (let i = 0; i < 10 && at + i < end; i++) {
    const byte = file.bytes(at + i, 1)[0]!;
    value += (byte & 0x7f) * scale;
    if (byte < 0x80) return [value, at + i + 1];
    scale *= 128;
  }
  throw damaged(location, at, 'a length or tag is cut off');
}

function skipScalar(file: FileReader, wireType: number, at: number, end: number, location: string): number {
  if (wireType === WireType.Varint) {
    for (let i = 0; i < 10 && at + i < end; i++) if (file.bytes(at + i, 1)[0]! < 0x80) return at + i + 1;
  } else if (wireType === WireType.Bit64 && at + 8 <= end) {
    return at + 8;
  } else if (wireType === WireType.Bit32 && at + 4 <= end) {
    return at + 4;
  }
  throw damaged(location, at, `a field has wire type ${wireType}`);
}
