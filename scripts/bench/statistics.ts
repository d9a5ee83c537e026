/** Few numbers about many. */

export function minimum(values: readonly number[]): number {
  return Math.min(...values);
}

/** The middle value; of an even count the higher of the two, as the peer counts. */
export function median(values: readonly number[]): number {
  return quantile(values, 0.5);
}

/** The value below which a share of all lie: element ⌊share · n⌋ in ascending order. NaN for none. */
export function quantile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? Number.NaN;
}

export function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}

/** Slope of log y over log x (least squares): 1 is linear growth, 2 quadratic. */
export function growthExponent(points: readonly { x: number; y: number }[]): number {
  const logs = points.map(({ x, y }) => [Math.log(x), Math.log(y)] as const);
  const mean = (i: 0 | 1) => sum(logs.map((one) => one[i])) / logs.length;
  const [mx, my] = [mean(0), mean(1)];
  return sum(logs.map(([x, y]) => (x - mx) * (y - my))) / sum(logs.map(([x]) => (x - mx) ** 2));
}
