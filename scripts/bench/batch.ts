/** The batch that steps are measured on. */
import { bindDims } from '../../src/lm/memory.ts';
import { findPlaces } from '../../src/lm/packing-feeds.ts';
import type { LmBatch } from '../../src/lm/types.ts';

export interface BatchSizes {
  batch: number;
  /** Tokens of a row, pseudo tokens included. */
  length: number;
  virtual: number;
  /** Position whose logits are read. */
  target: number;
  /** Tokens before the first pseudo token; default 0. */
  context?: number;
}

/** The peer's batch: pseudo tokens in front, or behind a context; tokens out of the first thousand, one label. */
export function peerBatch(
  { batch: rows, length, virtual, target, context = 0 }: BatchSizes,
  vocabulary: number,
): { batch: LmBatch; labels: BigInt64Array } {
  const size = rows * length;
  const range = Math.min(995, vocabulary - 5);
  /** Pseudo token at a place, or -1. */
  const slot = (i: number) => {
    const place = (i % length) - context;
    return place >= 0 && place < virtual ? place : -1;
  };
  return {
    batch: {
      rows,
      length,
      // As rendering leaves it, the id under a pseudo token is the same in every row.
      ids: BigInt64Array.from({ length: size }, (_, i) => BigInt(slot(i) >= 0 ? 0 : 5 + ((i * 7919) % range))),
      mask: new BigInt64Array(size).fill(1n),
      slots: BigInt64Array.from({ length: size }, (_, i) => BigInt(slot(i))),
      targets: new BigInt64Array(rows).fill(BigInt(target)),
    },
    labels: new BigInt64Array(rows).fill(11n),
  };
}

/** Sizes of the symbols in a training program's shapes for that batch, of the tokens that are left to compute included. */
export function bindBatch(sizes: BatchSizes, vocabulary: number, shares: boolean): Map<string, number> {
  const { batch } = peerBatch(sizes, vocabulary);
  const { packed, copies } = findPlaces(batch, shares);
  const pseudo = packed.filter((place) => batch.slots[place]! >= 0n).length;
  return new Map([...bindDims(sizes), ['tokens', packed.length], ['copies', copies.length], ['pseudo_tokens', pseudo]]);
}
