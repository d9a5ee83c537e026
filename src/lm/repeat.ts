/** Generation without a cache: for every token the rows' whole sequences are run again. */
import { pickRows } from './rows.ts';
import type { Decoding } from './types.ts';

/** A row of the batch that began, and its tokens so far. */
export interface Sequence {
  row: number;
  ids: bigint[];
}

/**
 * Goes on behind `begun`, the tokens of each row of a batch.
 * @param logitsOf logits [sequences.length, vocabulary] of the next token of each
 */
export async function decodeByRepeating(
  begun: readonly bigint[][],
  logitsOf: (sequences: readonly Sequence[]) => Promise<Float32Array>,
): Promise<Decoding> {
  let sequences = begun.map((ids, row): Sequence => ({ row, ids: [...ids] }));
  let current = await logitsOf(sequences);
  return {
    get rows() {
      return sequences.map((one) => one.row);
    },
    get logits() {
      return current;
    },
    async advance(tokens) {
      for (const [i, one] of sequences.entries()) one.ids.push(BigInt(tokens[i]!));
      current = await logitsOf(sequences);
    },
    keep(rows) {
      const kept = sequences.flatMap((one, i) => (rows.includes(one.row) ? [i] : []));
      current = pickRows(current, current.length / sequences.length, kept);
      sequences = kept.map((i) => sequences[i]!);
    },
  };
}

/** Ids padded on the right, where no position that is read looks: any id will do. */
export function padded(sequences: readonly Sequence[]): { length: number; ids: BigInt64Array } {
  const length = Math.max(...sequences.map((one) => one.ids.length));
  const ids = new BigInt64Array(sequences.length * length);
  for (const [i, one] of sequences.entries()) ids.set(one.ids, i * length);
  return { length, ids };
}

/** Position of each sequence's last token. */
export function lastOf(sequences: readonly Sequence[]): BigInt64Array {
  return BigInt64Array.from(sequences, (one) => BigInt(one.ids.length - 1));
}
