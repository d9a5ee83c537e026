/** Rows to padded batches, and the order of an epoch. */
import { uniformInt } from 'pure-rand/distribution/uniformInt';
import { xoroshiro128plus } from 'pure-rand/generator/xoroshiro128plus';
import type { LmBatch } from '../lm/types.ts';
import type { RenderedRow } from '../tasks/types.ts';

/** Pads rows on the right with `pad`. Labels are candidate indices [rows]. */
export function padBatch(rows: readonly RenderedRow[], pad: number): { batch: LmBatch; labels: BigInt64Array } {
  const length = Math.max(...rows.map((row) => row.ids.length));
  const size = rows.length * length;
  const batch: LmBatch = {
    rows: rows.length,
    length,
    ids: new BigInt64Array(size).fill(BigInt(pad)),
    mask: new BigInt64Array(size),
    slots: new BigInt64Array(size).fill(-1n),
    targets: BigInt64Array.from(rows, (row) => BigInt(row.target)),
  };
  for (const [r, row] of rows.entries()) {
    const start = r * length;
    for (const [i, id] of row.ids.entries()) {
      batch.ids[start + i] = BigInt(id);
      batch.slots[start + i] = BigInt(row.slots[i]!);
    }
    batch.mask.fill(1n, start, start + row.ids.length);
  }
  return { batch, labels: BigInt64Array.from(rows, (row) => BigInt(row.label)) };
}

/**
 * A permutation of 0 … count − 1 (Fisher and Yates), a pure function of seed and epoch: a resumed run needs no state of a
 * random generator to go on in the same order.
 */
export function epochOrder(count: number, seed: number, epoch: number): Uint32Array {
  const generator = xoroshiro128plus((Math.imul(seed, 0x9e3779b1) ^ Math.imul(epoch + 1, 0x85ebca6b)) | 0);
  const order = Uint32Array.from({ length: count }, (_, i) => i);
  for (let i = count - 1; i > 0; i--) {
    const j = uniformInt(generator, 0, i);
    const kept = order[i]!;
    order[i] = order[j]!;
    order[j] = kept;
  }
  return order;
}

/** Splits off a dev part (a fifth, at least one row) when none was given. @returns indices, each in ascending order */
export function splitDev(count: number, seed: number): { train: Uint32Array; dev: Uint32Array } {
  const order = epochOrder(count, seed, -1);
  const size = Math.max(1, Math.floor(count / 5));
  return { dev: order.slice(0, size).sort(), train: order.slice(size).sort() };
}
