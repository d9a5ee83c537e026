/** Rows waiting for one LM: bounded, with a deadline, and gone as soon as their client is. */
import { PtunedError } from '../errors.ts';
import { pickRows, type Ticket, tokensOf } from './batch.ts';
import type { Request } from './request.ts';
import { type Bounds, createThroughput, hasRoom } from './room.ts';

export interface Entry {
  ticket: Ticket;
  request: Request;
  /** Milliseconds of the queue's clock at which it is refused. */
  deadline: number;
}

export interface Queue {
  readonly rows: number;
  /** Throws overloaded unless `rows` more would be taken now. An empty queue takes a request of any size. */
  checkRoom(rows: number, tokens: number): void;
  add(entries: readonly Entry[]): void;
  /** Takes the rows of the next run out of the queue. */
  take(limits: { rows: number; tokens: number }): Entry[];
  /** The run of the rows taken last is over: how long it took tells what may wait. */
  served(): void;
  /** Removes a request's rows. */
  drop(request: Request): void;
  /** Refuses what has waited too long. */
  expire(): void;
}

/** `now` gives milliseconds of any origin. */
export function createQueue(bounds: Bounds, now: () => number): Queue {
  // In order of arrival.
  const waiting = new Set<Entry>();
  let tokens = 0;
  const throughput = createThroughput();
  // Since when rows have waited without being served; other LMs' runs and other work of this LM are in that time.
  let unserved: number | null = null;
  let run = { tokens: 0, begun: 0, full: false };

  function remove(entry: Entry): void {
    if (waiting.delete(entry)) tokens -= tokensOf(entry.ticket);
    if (waiting.size === 0) unserved = null;
  }

  function overloaded(message: string): PtunedError {
    const rate = throughput.perSecond();
    const seconds = rate > 0 ? Math.min(60, Math.max(1, Math.ceil(tokens / rate))) : 1;
    return new PtunedError('overloaded', message, { details: { retryAfter: seconds } });
  }

  return {
    get rows() {
      return waiting.size;
    },
    checkRoom(rows, more) {
      const ahead = { rows: waiting.size, tokens };
      if (hasRoom(ahead, { rows, tokens: more }, throughput.perSecond(), bounds)) return;
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
      const before = tokens;
      const begun = unserved ?? now();
      for (const entry of picked) remove(entry);
      run = { tokens: before - tokens, begun, full: waiting.size > 0 };
      return picked;
    },
    served() {
      // A run that had room for more does not show what the LM can do.
      if (run.full) throughput.observe(run.tokens, (now() - run.begun) / 1000);
      unserved = waiting.size > 0 ? now() : null;
    },
    drop(request) {
      for (const entry of waiting) if (entry.request === request) remove(entry);
    },
    expire() {
      const time = now();
      for (const entry of waiting) {
        // All wait equally long, so the order of arrival is the order of deadlines.
        if (entry.deadline > time) break;
        entry.request.end(overloaded(`This LM did not get to the request within ${bounds.waitMs / 1000} s.`));
      }
    },
  };
}
