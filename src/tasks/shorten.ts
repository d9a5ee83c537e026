/** Makes a row fit the LM: only shortenable fields are cut, the longest first, from their end. */

/** Tokens a shortenable field keeps, unless it has fewer: a row must still say something. */
const keptTokens = 1;

/** Tokens that {@link cutLongest} can take away. */
export function spareTokens(fields: readonly (readonly number[])[]): number {
  return fields.reduce((sum, ids) => sum + Math.max(0, ids.length - keptTokens), 0);
}

/** Cuts `excess` tokens in place; `excess` is at most {@link spareTokens}. */
export function cutLongest(fields: readonly number[][], excess: number): void {
  for (let left = excess; left > 0; ) {
    const [longest, second] = [...fields].sort((a, b) => b.length - a.length) as [number[], number[] | undefined];
    // Down to the next longest at once, then in turns of one.
    const step = Math.min(left, Math.max(1, longest.length - Math.max(keptTokens, second?.length ?? 0)));
    longest.length -= step;
    left -= step;
  }
}
