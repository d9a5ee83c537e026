/** Rows waiting for one LM: bounded, with a deadline, and gone as soon as their client is. */
import { PtunedError } from '../errors.ts';
import { pickRows, type Ticket, tokensOf } from './batch.ts';
import type { Request } from './request.ts';

export interface Entry {
  ticket: Ticket;
  request: Request;
  /** performance.now() at which it is refused. */
  deadline: number;
}

export interface Bounds {
  waitingRows: number;
  waitingTokens: number;
  waitMs: number;
}

export interface Queue {
  readonly rows: number;
  /** Throws overloaded unless `rows` more would be taken now. An empty queue takes a request of any size. */
  checkRoom(rows: number, tokens: number): void;
  add(entries: readonly Entry[]): void;
  /** Takes the rows of the next run out of the queue. */
  take(limits: { rows: number; tokens: number }): Entry[];
  /** Removes a request's rows. */
  drop(request: Request): void;
  /** Refuses what has waited too long. */
  expire(now: number): void;
}

/** `tokensPerSecond` is what the LM does at present, 0 when unknown: a refusal says when to come back. */
export function createQueue(bounds: Bounds, tokensPerSecond: () => number): Queue {
  // In order of arrival.
  const waiting = new Set<Entry>();
  let tokens = 0;

  function remove(entry: Entry): void {
    if (waiting.delete(entry)) tokens -= tokensOf(entry.ticket);
  }

  function overloaded(message: string): PtunedError {
    const rate = tokensPerSecond();
    const seconds = rate > 0 ? Math.min(60, Math.max(1, Math.ceil(tokens / rate))) : 1;
    return new PtunedError('overloaded', message, { details: { retryAfter: seconds } });
  }

  return {
    get rows() {
      return waiting.size;
    },
    checkRoom(rows, more) {
      if (waiting.size === 0) return;
      if (waiting.size + rows <= bounds.waitingRows && tokens + more <= bounds.waitingTokens) return;
      throw overloaded(`This LM has ${waiting.size} inputs waiting and takes no more now; try again soon.`);
    },
    add(entries) {
      for (const entry of entries) {
        waiting.add(entry);
        tokens += tokensOf(entry.ticket);
      }
    },
    take(limits) {
      const picked = pickRows(waiting, limits);
      for (const entry of picked) remove(entry);
      return picked;
    },
    drop(request) {
      for (const entry of waiting) if (entry.request === request) remove(entry);
    },
    expire(now) {
      for (const entry of waiting) {
        // All wait equally long, so the order of arrival is the order of deadlines.
        if (entry.deadline > now) break;
        entry.request.end(overloaded(`This LM did not get to the request within ${bounds.waitMs / 1000} s.`));
      }
    },
  };
}
