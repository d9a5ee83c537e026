/** Rendered rows in little memory: a million short ones take about 100 MB instead of a gigabyte as objects. */
import type { RenderedRow } from '../tasks/types.ts';

/** Rows that can be read one after the other or by their place; an array of rows is one too. */
export interface Rows extends Iterable<RenderedRow> {
  readonly length: number;
  at(index: number): RenderedRow | undefined;
}

/** Rows that can be added to; each is made anew when it is read. */
export interface RowStore extends Rows {
  add(row: RenderedRow): void;
}

/** Rows of one template differ in their slots only by the lengths of their fields, so few arrays serve many rows. */
export function createRowStore(): RowStore {
  const slots = createInterner();
  const decoders = createInterner();
  const tokens = createIntegers();
  /** Where each row's tokens end. */
  const ends = createIntegers();
  /** Five numbers a row: target, label, cut, and which slots and decoder it has. */
  const facts = createIntegers();
  const perRow = 5;

  function at(index: number): RenderedRow | undefined {
    if (index < 0 || index >= ends.length) return undefined;
    const ids = tokens.slice(index === 0 ? 0 : ends.get(index - 1), ends.get(index));
    const fact = (i: number) => facts.get(index * perRow + i);
    const decoder = decoders.get(fact(4));
    return {
      ids,
      slots: slots.get(fact(3))!,
      target: fact(0),
      label: fact(1),
      cut: fact(2),
      ...(decoder === null ? {} : { decoder }),
    };
  }

  return {
    get length() {
      return ends.length;
    },
    add(row) {
      for (const id of row.ids) tokens.push(id);
      ends.push(tokens.length);
      for (const fact of [row.target, row.label, row.cut]) facts.push(fact);
      facts.push(slots.intern(row.slots));
      facts.push(decoders.intern(row.decoder ?? null));
    },
    at,
    *[Symbol.iterator]() {
      for (let i = 0; i < ends.length; i++) yield at(i)!;
    },
  };
}

/** The rows at these places, in this order. */
export function pickRows(rows: Rows, indices: Uint32Array): Rows {
  const at = (index: number) => (index < indices.length ? rows.at(indices[index]!) : undefined);
  return {
    length: indices.length,
    at,
    *[Symbol.iterator]() {
      for (let i = 0; i < indices.length; i++) yield at(i)!;
    },
  };
}

/** Equal lists once; null is a list of its own. */
function createInterner() {
  const known = new Map<string, number>();
  const lists: (number[] | null)[] = [];
  return {
    intern(list: number[] | null): number {
      const key = list === null ? '' : `[${list.join()}`;
      let index = known.get(key);
      if (index === undefined) {
        index = lists.push(list === null ? null : list.slice()) - 1;
        known.set(key, index);
      }
      return index;
    },
    get: (index: number) => lists[index] ?? null,
  };
}

/** A list of 32-bit integers that grows in blocks: nothing is copied when it does. */
function createIntegers() {
  const bits = 16;
  const blocks: Int32Array[] = [];
  let length = 0;
  const get = (index: number) => blocks[index >> bits]![index & ((1 << bits) - 1)]!;
  return {
    get length() {
      return length;
    },
    push(value: number) {
      if (length >> bits === blocks.length) blocks.push(new Int32Array(1 << bits));
      blocks[length >> bits]![length & ((1 << bits) - 1)] = value;
      length++;
    },
    get,
    slice(start: number, end: number): number[] {
      const values: number[] = [];
      for (let i = start; i < end; i++) values.push(get(i));
      return values;
    },
  };
}
