/** Which tokens of a batch are computed, and where their results go: the feeds of a graph that pack.ts rewrote. */
import type { Feed } from '../onnx/session.ts';
import { feeds } from './feeds.ts';

export interface PackedBatch {
  rows: number;
  length: number;
  /** [rows, length] */
  ids: BigInt64Array;
  mask: BigInt64Array;
  slots: BigInt64Array;
}

interface Places {
  /** Place of each computed token, row · length + position. */
  packed: number[];
  /** Computed token at each place, 0 at padding. */
  spread: Int32Array;
  /** Places whose token was taken from another place. */
  copies: number[];
}

/**
 * Padding is not computed. With `shares`, a token of a prefix that rows have in common (the same ids and slots, no padding) is
 * computed once. Where keys and values stand before the rows, only rows of one group [rows] have the same before them. Linear in
 * the batch's tokens.
 */
export function findPlaces(batch: PackedBatch, shares: boolean, groups?: readonly number[]): Places {
  const { rows, length, mask } = batch;
  const spread = new Int32Array(rows * length);
  const packed: number[] = [];
  const copies: number[] = [];
  const first = shares ? firstOfPrefix(batch, groups) : null;
  for (let place = 0; place < rows * length; place++) {
    if (mask[place] !== 1n) continue;
    const source = first?.[place] ?? place;
    if (source === place) spread[place] = packed.push(place) - 1;
    else {
      spread[place] = spread[source]!;
      copies.push(place);
    }
  }
  // A batch of nothing but padding still has one token.
  if (packed.length === 0) packed.push(0);
  return { packed, spread, copies };
}

/** For each place the first row's place whose whole prefix up to there is the same. */
function firstOfPrefix(batch: PackedBatch, groups: readonly number[] = []): Int32Array {
  const { rows, length, ids, mask, slots } = batch;
  const first = Int32Array.from({ length: rows * length }, (_, place) => place);
  // Row that stands for each row as far as its tokens were compared; before the first, the row's group.
  const leader = Int32Array.from({ length: rows }, (_, row) => groups[row] ?? 0);
  for (let position = 0; position < length; position++) {
    const known = new Map<string, number>();
    let found = false;
    for (let row = 0; row < rows; row++) {
      const place = row * length + position;
      const isToken = mask[place] === 1n;
      const key = `${leader[row]} ${ids[place]} ${slots[place]}`;
      const other = isToken ? known.get(key) : undefined;
      if (other === undefined) {
        if (isToken) known.set(key, row);
        leader[row] = row;
      } else {
        leader[row] = other;
        first[place] = other * length + position;
        found = true;
      }
    }
    if (!found) break;
  }
  return first;
}

interface PlacesApart extends Places {
  /** Places of early tokens, and which of them stands at each place, -1 for none. */
  early: number[];
  spreadEarly: Int32Array;
}

/**
 * The same places with early tokens apart: those that stand in no row behind a pseudo token or at the target. Either kind has a
 * token at least.
 */
export function setApart(batch: PackedBatch, targets: BigInt64Array, { packed, spread, copies }: Places): PlacesApart {
  const { length } = batch;
  const isEarly = packed.map(() => true);
  for (const [row, target] of targets.entries()) {
    const slots = batch.slots.subarray(row * length, (row + 1) * length);
    const first = slots.findIndex((slot) => slot >= 0n);
    const end = Math.min(first < 0 ? length : first, Number(target));
    for (let place = row * length + end; place < (row + 1) * length; place++)
      if (batch.mask[place] === 1n) isEarly[spread[place]!] = false;
  }
  const [rest, early]: [number[], number[]] = [[], []];
  const index = packed.map((place, token) => (isEarly[token] ? early : rest).push(place) - 1);
  const isToken = (place: number) => batch.mask[place] === 1n;
  const at = (place: number) => spread[place]!;
  return {
    packed: rest,
    spread: spread.map((token, place) => (isToken(place) && !isEarly[token] ? index[token]! : 0)),
    copies: copies.filter((place) => !isEarly[at(place)]),
    early: early.length > 0 ? early : [0],
    spreadEarly: spread.map((token, place) => (isToken(place) && isEarly[token] ? index[token]! : -1)),
  };
}

/** Feeds of a packed graph. `targets` are positions [rows]; `shares` and `groups` as for {@link findPlaces}, `apart` for {@link setApart}. */
export function packingFeeds(
  batch: PackedBatch,
  targets: BigInt64Array,
  shares: boolean,
  { groups, apart = false }: { groups?: readonly number[]; apart?: boolean } = {},
): Record<string, Feed> {
  const { rows, length } = batch;
  const places = findPlaces(batch, shares, groups);
  const parted = apart ? setApart(batch, targets, places) : null;
  const { packed, spread, copies } = parted ?? places;
  const gradient = new BigInt64Array(rows * length).fill(BigInt(packed.length));
  for (const [token, place] of packed.entries()) gradient[place] = BigInt(token);
  const whole = [rows, length];
  const int64 = (dims: number[], data: BigInt64Array): Feed => ({ dtype: 'int64', dims, data });
  const tokenAt = (place: number) => BigInt(spread[place] ?? 0);
  const earlyFeeds = parted && {
    [feeds.early]: int64([parted.early.length], BigInt64Array.from(parted.early, BigInt)),
    [feeds.spreadEarly]: int64(whole, BigInt64Array.from(parted.spreadEarly, BigInt)),
  };
  return {
    ...earlyFeeds,
    [feeds.packed]: int64([packed.length], BigInt64Array.from(packed, BigInt)),
    [feeds.spread]: int64(whole, BigInt64Array.from(spread, BigInt)),
    [feeds.spreadGradient]: int64(whole, gradient),
    [feeds.copies]: int64([copies.length], BigInt64Array.from(copies, BigInt)),
    [feeds.copyRows]: int64([copies.length, 1], BigInt64Array.from(copies, tokenAt)),
    [feeds.packedTargets]: int64(
      [rows],
      BigInt64Array.from(targets, (target, row) => tokenAt(row * length + Number(target))),
    ),
  };
}
