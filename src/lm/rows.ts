/** Rows of batches and of what is computed for them. */
import type { Feed } from '../onnx/session.ts';
import type { LmBatch } from './types.ts';

/** Tokens of each row. */
export function lengthsOf(batch: LmBatch): number[] {
  return Array.from({ length: batch.rows }, (_, row) => {
    let count = 0;
    for (let i = 0; i < batch.length; i++) count += Number(batch.mask[row * batch.length + i]!);
    return count;
  });
}

/** Rows of a [rows, width] array, in the order asked for. */
export function pickRows(values: Float32Array, width: number, rows: readonly number[]): Float32Array {
  const picked = new Float32Array(rows.length * width);
  for (const [i, row] of rows.entries()) picked.set(values.subarray(row * width, (row + 1) * width), i * width);
  return picked;
}

/** Rows of a float32 [rows, …] feed, in the order asked for. */
export function pickFeed(feed: Feed, rows: readonly number[]): Feed {
  const width = feed.dims.slice(1).reduce((product, dim) => product * dim, 1);
  const data = pickRows(feed.data as Float32Array, width, rows);
  return { ...feed, dims: [rows.length, ...feed.dims.slice(1)], data };
}
