/**
 * Contexts: tokens before a row's first pseudo token. In a causal LM they depend on no prompt, so their keys and values are
 * read without a gradient and are the same in every step of a job; what fits into a limit is kept from step to step.
 */
import { findPlaces, setApart } from './packing-feeds.ts';
import { bytesOf, type Past } from './past.ts';
import { cutBatch, lengthsOf } from './rows.ts';
import type { LmBatch, Scorer } from './types.ts';

/** Tokens below which a context stays a part of its row. */
const fewest = 16;

/**
 * What tokens cost, in tokens, that are run by themselves: each weight is read once more. Measured by reading contexts of 25
 * to 200 tokens with GPT-2 124M: 11 to 23.
 */
const runCost = 20;

export interface Contexts {
  /** The batch without its rows' contexts, and the keys and values of these. */
  of(batch: LmBatch): Promise<LmBatch>;
  /** What is kept. */
  size(): { entries: number; bytes: number };
}

/**
 * Each context is read by itself, so that its keys and values are the same bits whether they were kept, in this process or
 * none: a job that goes on from a checkpoint reads again what was lost. What was kept first stays: rows come once an epoch in
 * any order, and of these the least recently used is the next to come as likely as any other.
 * @param limit bytes of keys and values that are kept
 */
export function createContexts(read: NonNullable<Scorer['read']>, limit: number): Contexts {
  const kept = new Map<string, Past>();
  let bytes = 0;
  return {
    async of(batch) {
      const lengths = contextLengths(batch);
      const inBatch = new Map<string, Past>();
      const contexts: (Past | null)[] = [];
      for (const [row, tokens] of lengths.entries()) {
        if (tokens === 0) {
          contexts.push(null);
          continue;
        }
        const ids = tokensOf(batch, row, tokens);
        const key = ids.join();
        const past = inBatch.get(key) ?? kept.get(key) ?? (await read(ids));
        inBatch.set(key, past);
        contexts.push(past);
        if (kept.has(key) || bytes + bytesOf(past) > limit) continue;
        kept.set(key, past);
        bytes += bytesOf(past);
      }
      return { ...withoutContexts(batch, lengths), contexts };
    },
    size: () => ({ entries: kept.size, bytes }),
  };
}

/** Work of a training step on a batch, in tokens that products see in one direction. */
export interface StepWork {
  /** Rows whole: forward and backward. */
  whole: number;
  /** With tokens before pseudo tokens computed apart: forward these, forward and backward the others. */
  apart: number;
  /** Behind contexts: what is left of the rows, forward and backward. */
  rest: number;
  /** To read the contexts, and the tokens that these have. */
  reading: number;
  contexts: number;
}

/** What rows of the batch begin with alike counts once, as it is computed. */
export function stepWork(batch: LmBatch): StepWork {
  const lengths = contextLengths(batch);
  const keys = lengths.map((tokens, row) => tokensOf(batch, row, tokens).join());
  const distinct = [...new Set(keys)];
  const groups = keys.map((key) => distinct.indexOf(key));
  const read = distinct.map((key) => lengths[keys.indexOf(key)]!).filter((tokens) => tokens > 0);
  const contexts = read.reduce((sum, tokens) => sum + tokens, 0);
  const whole = findPlaces(batch, true);
  const { packed, early } = setApart(batch, batch.targets, whole);
  return {
    whole: 2 * whole.packed.length,
    apart: early.length + runCost + 2 * packed.length,
    rest: 2 * findPlaces(withoutContexts(batch, lengths), true, groups).packed.length,
    reading: contexts + runCost * read.length,
    contexts,
  };
}

/** Tokens of each row before its first pseudo token; 0 where they are few or the row has none. */
export function contextLengths({ rows, length, slots, targets }: LmBatch): number[] {
  return Array.from({ length: rows }, (_, row) => {
    const tokens = slots.subarray(row * length, (row + 1) * length).findIndex((slot) => slot >= 0n);
    return tokens >= fewest && tokens <= Number(targets[row]!) ? tokens : 0;
  });
}

function tokensOf({ ids, length }: LmBatch, row: number, tokens: number): number[] {
  return Array.from(ids.subarray(row * length, row * length + tokens), Number);
}

function withoutContexts(batch: LmBatch, lengths: readonly number[]): LmBatch {
  const spans = lengthsOf(batch).map((to, row) => ({ row, from: lengths[row]!, to }));
  return cutBatch(batch, spans);
}
