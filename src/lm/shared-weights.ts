/** Weights that two files of one export both hold: a word embedding that encoder and decoder share is loaded once. */
import { closeSync, openSync, readSync } from 'node:fs';
import { join } from 'node:path';
import { type ExternalData, isExternal, type Tensor } from '../onnx/ir.ts';

const chunk = 1 << 20;

/**
 * Weights of `second` that are one of `first`, byte for byte: name to name. Most pairs of one shape differ in their
 * first bytes, so little more is read than what is really shared.
 */
export function sharedWeights(
  first: ReadonlyMap<string, Tensor>,
  second: ReadonlyMap<string, Tensor>,
  directory: string,
): Map<string, string> {
  const files = openFiles(directory);
  try {
    const byHead = new Map<string, [string, ExternalData][]>();
    const headOf = ({ dtype, dims }: Tensor, data: ExternalData) =>
      `${dtype} ${dims} ${files.read(data, 0, 64).toString('base64')}`;
    for (const [name, tensor] of first) {
      if (!isExternal(tensor.data)) continue;
      const head = headOf(tensor, tensor.data);
      byHead.set(head, [...(byHead.get(head) ?? []), [name, tensor.data]]);
    }
    const shared = new Map<string, string>();
    for (const [name, tensor] of second) {
      const { data } = tensor;
      if (!isExternal(data)) continue;
      const same = byHead.get(headOf(tensor, data))?.find(([, other]) => sameBytes(files, data, other));
      if (same !== undefined) shared.set(name, same[0]);
    }
    return shared;
  } finally {
    files.close();
  }
}

interface Files {
  /** At most `length` bytes of a tensor, from its byte `start`. */
  read(data: ExternalData, start: number, length: number): Buffer;
  close(): void;
}

function openFiles(directory: string): Files {
  const descriptors = new Map<string, number>();
  return {
    read({ location, offset, length: size }, start, length) {
      const descriptor = descriptors.get(location) ?? openSync(join(directory, location), 'r');
      descriptors.set(location, descriptor);
      const buffer = Buffer.alloc(Math.min(length, size - start));
      return buffer.subarray(0, readSync(descriptor, buffer, 0, buffer.length, offset + start));
    },
    close() {
      for (const descriptor of descriptors.values()) closeSync(descriptor);
    },
  };
}

function sameBytes(files: Files, a: ExternalData, b: ExternalData): boolean {
  if (a.location === b.location && a.offset === b.offset) return true;
  for (let start = 0; start < a.length; start += chunk)
    if (!files.read(a, start, chunk).equals(files.read(b, start, chunk))) return false;
  return true;
}
