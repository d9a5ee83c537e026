/** Writes random weights piece by piece: memory does not grow with the LM. */
import { closeSync, ftruncateSync, openSync, writeSync } from 'node:fs';
import { numberToHalf } from '../../src/onnx/types.ts';
import type { Weight } from './author.ts';
import type { Precision } from './shape.ts';

/** Elements drawn and written at once. */
const piece = 1 << 20;

/** Same file for the same weights and seed. */
export function writeWeights(path: string, weights: readonly Weight[], precision: Precision, seed: number): void {
  const file = openSync(path, 'w');
  const bytes = precision === 'float32' ? 4 : 2;
  const copies = new Map(weights.flatMap((one) => ('transposeOf' in one.init ? [[one.init.transposeOf, one]] : [])));
  try {
    ftruncateSync(file, Math.max(...weights.map((one) => one.offset + bytes * count(one))));
    const next = generator(seed);
    for (const weight of weights) {
      if ('transposeOf' in weight.init) continue;
      writeWeight(file, weight, copies.get(weight.name) ?? null, precision, next);
    }
  } finally {
    closeSync(file);
  }
}

function count(weight: Weight): number {
  return weight.dims.reduce((product, dim) => product * dim, 1);
}

/** Whole rows at a time, so that a transposed copy gets its columns along the way. */
function writeWeight(file: number, weight: Weight, copy: Weight | null, precision: Precision, next: () => number) {
  const { init, dims, offset } = weight;
  const width = dims.length === 2 ? dims[1]! : 1;
  const rows = count(weight) / width;
  const bytes = precision === 'float32' ? 4 : 2;
  const most = Math.max(1, Math.floor(piece / width));
  for (let row = 0; row < rows; row += most) {
    const values = new Float32Array(Math.min(most, rows - row) * width);
    if ('value' in init) values.fill(init.value);
    else if ('deviation' in init) {
      const span = init.deviation * Math.sqrt(12);
      for (let i = 0; i < values.length; i++) values[i] = (next() - 0.5) * span;
    }
    write(file, stored(values, precision), offset + row * width * bytes);
    if (copy !== null) writeColumns(file, values, width, precision, copy.offset + row * bytes, rows * bytes);
  }
}

/** Each column of `values` [rows, width] to its place in the transposed weight, `stride` bytes apart. */
function writeColumns(
  file: number,
  values: Float32Array,
  width: number,
  precision: Precision,
  at: number,
  stride: number,
) {
  const rows = values.length / width;
  const column = new Float32Array(rows);
  for (let c = 0; c < width; c++) {
    for (let r = 0; r < rows; r++) column[r] = values[r * width + c]!;
    write(file, stored(column, precision), at + c * stride);
  }
}

function stored(values: Float32Array, precision: Precision): Uint8Array {
  const data = precision === 'float32' ? values : Uint16Array.from(values, numberToHalf);
  return new Uint8Array(data.buffer, 0, data.byteLength);
}

function write(file: number, bytes: Uint8Array, at: number): void {
  for (let done = 0; done < bytes.length; ) done += writeSync(file, bytes, done, bytes.length - done, at + done);
}

/** Uniform in [0, 1): xorshift of 32 bits (Marsaglia, 2003), fast enough for gigabytes. */
function generator(seed: number): () => number {
  let state = (seed + 1) * 0x9e3779b9 || 1;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) / 2 ** 32;
  };
}
