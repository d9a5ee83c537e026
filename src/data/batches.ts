/** Rows to padded batches, and the order of an epoch. */
import { uniformInt } from 'pure-rand/distribution/uniformInt';
import { xoroshiro128plus } from 'pure-rand/generator/xoroshiro128plus';
import type { RandomGenerator } from 'pure-rand/types/RandomGenerator';
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
  const answers = rows.flatMap(({ decoder }) => (decoder === undefined ? [] : [decoder]));
  if (answers.length > 0) batch.decoder = padAnswers(answers, pad);
  return { batch, labels: BigInt64Array.from(rows, (row) => BigInt(row.label)) };
}

/** What the decoder is given of each row, padded on the right. */
export function padAnswers(answers: readonly (readonly number[])[], pad: number): NonNullable<LmBatch['decoder']> {
  const length = Math.max(...answers.map((ids) => ids.length));
  const ids = new BigInt64Array(answers.length * length).fill(BigInt(pad));
  for (const [row, answer] of answers.entries()) ids.set(answer.map(BigInt), row * length);
  return { length, ids };
}

/** Lengths of all rows and the batch size of training; rows of like length then share batches. */
export interface Buckets {
  lengths: ArrayLike<number>;
  batchSize: number;
}

/** Batches whose rows are sorted by length together: enough for little padding, few enough to keep the order random. */
const batchesPerBucket = 16;

/**
 * A permutation of 0 … count − 1 (Fisher and Yates), a pure function of seed and epoch: a resumed run needs no state of a
 * random generator to go on in the same order. With `buckets`, consecutive groups of `batchSize` hold rows of like length,
 * the groups themselves in random order; a group that is not full stays last.
 */
export function epochOrder(count: number, seed: number, epoch: number, buckets?: Buckets): Uint32Array {
  const generator = xoroshiro128plus(mix(seed, epoch));
  const order = Uint32Array.from({ length: count }, (_, i) => i);
  shuffle(order, generator);
  if (buckets === undefined) return order;
  const { lengths, batchSize } = buckets;
  const window = batchesPerBucket * batchSize;
  for (let start = 0; start < count; start += window) {
    // Typed arrays sort in place, stably: rows of one length stay in their random order.
    order.subarray(start, start + window).sort((a, b) => lengths[a]! - lengths[b]!);
  }
  const full = Math.floor(count / batchSize);
  const groups = Uint32Array.from({ length: full }, (_, i) => i);
  shuffle(groups, generator);
  const sorted = order.slice();
  for (const [to, from] of groups.entries()) {
    order.set(sorted.subarray(from * batchSize, (from + 1) * batchSize), to * batchSize);
  }
  return order;
}

function shuffle(values: Uint32Array, generator: RandomGenerator): void {
  for (let i = values.length - 1; i > 0; i--) {
    const j = uniformInt(generator, 0, i);
    const kept = values[i]!;
    values[i] = values[j]!;
    values[j] = kept;
  }
}

/** 32 well-mixed bits of seed and epoch (the finalizer of MurmurHash3, after each), so that epochs have nothing in common. */
function mix(seed: number, epoch: number): number {
  let bits = 0;
  for (const value of [seed, epoch]) {
    bits = (bits ^ value) + 0x9e3779b9;
    bits = Math.imul(bits ^ (bits >>> 16), 0x85ebca6b);
    bits = Math.imul(bits ^ (bits >>> 13), 0xc2b2ae35);
    bits ^= bits >>> 16;
  }
  return bits | 0;
}

/** Splits off a dev part (a fifth, at least one row) when none was given. Returns indices, each in ascending order. */
export function splitDev(count: number, seed: number): { train: Uint32Array; dev: Uint32Array } {
  // Training epochs are not negative, so no epoch has the order of the split.
  const order = epochOrder(count, seed, -1);
  const size = Math.max(1, Math.floor(count / 5));
  return { dev: order.slice(0, size).sort(), train: order.slice(size).sort() };
}
