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

/** One row of plain tokens. */
export function textOf(ids: readonly number[]): LmBatch {
  const { length } = ids;
  return {
    rows: 1,
    length,
    ids: BigInt64Array.from(ids, BigInt),
    mask: new BigInt64Array(length).fill(1n),
    slots: new BigInt64Array(length).fill(-1n),
    targets: new BigInt64Array(1),
  };
}

/** Tokens `from` … `to` − 1 of a row. */
export interface Span {
  row: number;
  from: number;
  to: number;
}

/** Parts of a batch's rows as a right-padded batch of its own; of what stands before or beside the rows, nothing. */
export function cutBatch(batch: LmBatch, spans: readonly Span[]): LmBatch {
  const rows = spans.length;
  const length = Math.max(...spans.map(({ from, to }) => to - from));
  const cut = (values: BigInt64Array, padding: bigint) => {
    const result = new BigInt64Array(rows * length).fill(padding);
    for (const [i, { row, from, to }] of spans.entries())
      result.set(values.subarray(row * batch.length + from, row * batch.length + to), i * length);
    return result;
  };
  const target = ({ row, from, to }: Span) => Math.min(Math.max(Number(batch.targets[row]!) - from, 0), to - from - 1);
  return {
    rows,
    length,
    ids: cut(batch.ids, 0n),
    mask: cut(batch.mask, 0n),
    slots: cut(batch.slots, -1n),
    targets: BigInt64Array.from(spans, (span) => BigInt(target(span))),
  };
}

/** Rows of a [rows, width] array, in the order asked for. */
export function pickRows<T extends Float32Array | BigInt64Array>(values: T, width: number, rows: readonly number[]): T {
  const picked = new (values.constructor as new (length: number) => T)(rows.length * width);
  for (const [i, row] of rows.entries())
    picked.set(values.subarray(row * width, (row + 1) * width) as never, i * width);
  return picked;
}

/** Rows of a float32 or int64 [rows, …] feed, in the order asked for. */
export function pickFeed(feed: Feed, rows: readonly number[]): Feed {
  const width = feed.dims.slice(1).reduce((product, dim) => product * dim, 1);
  const data = pickRows(feed.data as Float32Array | BigInt64Array, width, rows);
  return { ...feed, dims: [rows.length, ...feed.dims.slice(1)], data };
}

/** Rows of a batch without prefixes, in the order asked for. */
export function pickBatch(batch: LmBatch, rows: readonly number[]): LmBatch {
  const { length, ids, mask, slots, targets, decoder } = batch;
  const pick = (values: BigInt64Array, width = length) => pickRows(values, width, rows);
  const picked = {
    rows: rows.length,
    length,
    ids: pick(ids),
    mask: pick(mask),
    slots: pick(slots),
    targets: pick(targets, 1),
  };
  if (decoder === undefined) return picked;
  return { ...picked, decoder: { length: decoder.length, ids: pick(decoder.ids, decoder.length) } };
}
