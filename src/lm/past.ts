/** Keys and values of tokens, as they are kept for a row, fed for a batch, and stored as a prefix table. */
import type { Feed } from '../onnx/session.ts';
import type { PromptTable } from './types.ts';

/** Heads and head width of a past input [batch, heads, tokens, size]. */
export interface PastShape {
  heads: number;
  size: number;
}

/** Keys and values of tokens that stand before a row: for each past input [heads, tokens, size]. */
export interface Past {
  tokens: number;
  values: Float32Array[];
}

export function bytesOf({ values }: Past): number {
  return values.reduce((sum, one) => sum + one.byteLength, 0);
}

/** A prefix table: each row holds a token's keys and values of every layer, in the order of the past inputs. */
export function pastOfTable(shapes: readonly PastShape[], { rows, width, values }: PromptTable): Past {
  let column = 0;
  const past = shapes.map(({ heads, size }) => {
    const data = new Float32Array(heads * rows * size);
    eachVector(heads, rows, (head, token) => {
      const from = token * width + column + head * size;
      data.set(values.subarray(from, from + size), (head * rows + token) * size);
    });
    column += heads * size;
    return data;
  });
  return { tokens: rows, values: past };
}

/** The inverse of {@link pastOfTable}: [tokens, layers · 2 · heads · size]. */
export function tableOfPast(shapes: readonly PastShape[], { tokens, values }: Past): Float32Array {
  const width = shapes.reduce((sum, { heads, size }) => sum + heads * size, 0);
  const table = new Float32Array(tokens * width);
  let column = 0;
  for (const [i, { heads, size }] of shapes.entries()) {
    eachVector(heads, tokens, (head, token) => {
      const from = (head * tokens + token) * size;
      table.set(values[i]!.subarray(from, from + size), token * width + column + head * size);
    });
    column += heads * size;
  }
  return table;
}

/** Memory for feeds: what was stacked in it is there until it is stacked in again. */
export type Scratch = Float32Array[];

/**
 * One feed [rows, heads, longest, size] for each past input. A row that has less fills it from the right: what goes on behind
 * it has no gap to its last token, which attention in sliding windows would count.
 */
export function stackPasts(
  shapes: readonly PastShape[],
  pasts: readonly (Past | null)[],
  scratch: Scratch = [],
): Feed[] {
  const longest = Math.max(0, ...pasts.map((past) => past?.tokens ?? 0));
  return shapes.map(({ heads, size }, input) => {
    const count = pasts.length * heads * longest * size;
    if ((scratch[input]?.length ?? -1) < count) scratch[input] = new Float32Array(count);
    const data = scratch[input]!.subarray(0, count);
    for (const [row, past] of pasts.entries()) {
      const width = (past?.tokens ?? 0) * size;
      for (let head = 0; head < heads; head++) {
        const end = (row * heads + head + 1) * longest * size;
        data.fill(0, end - longest * size, end - width);
        if (past !== null) data.set(past.values[input]!.subarray(head * width, (head + 1) * width), end - width);
      }
    }
    return { dtype: 'float32', dims: [pasts.length, heads, longest, size], data };
  });
}

/** Tokens `from` … `to` − 1 of a row of feeds [rows, heads, tokens, size]. */
export function pastOfRow(feeds: readonly Feed[], row: number, from: number, to: number): Past {
  const tokens = to - from;
  const values = feeds.map(({ dims, data }) => {
    const [, heads, all, size] = dims as [number, number, number, number];
    const past = new Float32Array(heads * tokens * size);
    for (let head = 0; head < heads; head++) {
      const start = (row * heads + head) * all * size;
      past.set((data as Float32Array).subarray(start + from * size, start + to * size), head * tokens * size);
    }
    return past;
  });
  return { tokens, values };
}

function eachVector(heads: number, tokens: number, visit: (head: number, token: number) => void): void {
  for (let head = 0; head < heads; head++) for (let token = 0; token < tokens; token++) visit(head, token);
}
