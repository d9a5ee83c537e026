/** What bounds the inference process: queues, batches, memory. */
import { totalmem } from 'node:os';

export interface Limits {
  /** Rows waiting for one LM; more are refused with `overloaded`. */
  waitingRows: number;
  /** Tokens waiting for one LM, pseudo tokens included. */
  waitingTokens: number;
  /** Milliseconds that serving what waits for one LM may take, by its throughput; beyond, more are refused. */
  aheadMs: number;
  /** Milliseconds a row may wait before it is refused with `overloaded`. */
  waitMs: number;
  /** Rows of one run of an LM. */
  batchRows: number;
  /** Tokens of one run, padding included. */
  batchTokens: number;
  /** Generating batches of one LM at a time; their keys and values stay in memory between steps. */
  generations: number;
  /** Bytes of LM weights kept open; at least one LM stays open whatever its size. */
  lmBytes: number;
  /** Bytes of tuned prompts kept in memory, and of lists of candidates. */
  promptBytes: number;
  /** Bytes of keys and values kept, for each LM, of what the rows of a tuned prompt begin with. */
  keptBytes: number;
  /** Tokenizers kept in memory. */
  tokenizers: number;
  /** Milliseconds that requests get to finish when the server closes. */
  drainMs: number;
}

export function defaultLimits(): Limits {
  return {
    waitingRows: 512,
    waitingTokens: 131_072,
    aheadMs: 3000,
    waitMs: 30_000,
    batchRows: 32,
    batchTokens: 4096,
    generations: 2,
    lmBytes: totalmem() / 2,
    promptBytes: 256 << 20,
    keptBytes: 256 << 20,
    tokenizers: 8,
    drainMs: 8000,
  };
}
