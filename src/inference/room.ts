/** Whether more work may wait for an LM, by the time it will take rather than by its size alone. */

/** Work that waits, or that asks to. `tokens` may be 0 where they are not counted yet. */
export interface Work {
  rows: number;
  tokens: number;
}

export interface Bounds {
  waitingRows: number;
  waitingTokens: number;
  /** Milliseconds that what waits may take to be served. */
  aheadMs: number;
  /** Milliseconds until the deadline of a row. */
  waitMs: number;
}

/**
 * True when `more` may wait behind `waiting`: the rows and tokens of both are within bounds, what waits takes no longer
 * than `aheadMs`, and both together no longer than `waitMs`, so that no row is taken that would miss its deadline.
 * Behind nothing a request of any size is taken. `tokensPerSecond` is 0 while unknown: then only sizes count.
 */
export function hasRoom(waiting: Work, more: Work, tokensPerSecond: number, bounds: Bounds): boolean {
  if (waiting.rows === 0) return true;
  if (waiting.rows + more.rows > bounds.waitingRows) return false;
  if (waiting.tokens + more.tokens > bounds.waitingTokens) return false;
  if (tokensPerSecond === 0) return true;
  const milliseconds = (tokens: number) => (1000 * tokens) / tokensPerSecond;
  return milliseconds(waiting.tokens) <= bounds.aheadMs && milliseconds(waiting.tokens + more.tokens) <= bounds.waitMs;
}

/** Seconds of work after which an observation counts 1/e. */
const memory = 2;

export interface Throughput {
  observe(tokens: number, seconds: number): void;
  /** 0 before the first observation. */
  perSecond(): number;
}

/**
 * Tokens a second, exponentially averaged over the time worked: both sums fade with exp(-seconds/2), so that a short run
 * says less than a long one.
 */
export function createThroughput(): Throughput {
  const sums = { tokens: 0, seconds: 0 };
  return {
    observe(tokens, seconds) {
      const fade = Math.exp(-seconds / memory);
      sums.tokens = fade * sums.tokens + tokens;
      sums.seconds = fade * sums.seconds + seconds;
    },
    perSecond: () => (sums.seconds > 0 ? sums.tokens / sums.seconds : 0),
  };
}
