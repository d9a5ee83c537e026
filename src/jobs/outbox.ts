/** Sends what a worker tells of its job to Redis, one by one and in order, and keeps it while Redis is gone. */
import { setTimeout } from 'node:timers/promises';
import { failures, PtunedError } from '../errors.ts';

export interface Outbox {
  /** Sends after all before it. `send` returns 'missing' when Redis has forgotten the job. */
  push(send: () => Promise<unknown>): void;
  /** Like push, but takes the place of what still waits under this name. */
  latest(name: string, send: () => Promise<unknown>): void;
  /** Resolves when nothing waits; after `signal` has aborted it is given up soon. */
  flush(signal: AbortSignal): Promise<void>;
  /** What waits is not sent. */
  close(): void;
}

interface Letter {
  name: string | null;
  send(): Promise<unknown>;
}

const retryMilliseconds = 500;
/** How long a process that is ending still tries. */
const lastMilliseconds = 1500;
const most = 5000;

/** @param restore brings the job's record back; @param dropped is told what cannot be sent at all */
export function createOutbox(restore: () => Promise<void>, dropped: (error: unknown) => void): Outbox {
  let waiting: Letter[] = [];
  let sending: Promise<void> | null = null;
  let isClosed = false;

  async function pump(): Promise<void> {
    for (let letter = waiting[0]; letter !== undefined && !isClosed; letter = waiting[0]) {
      try {
        if ((await letter.send()) === 'missing') {
          await restore();
          await letter.send();
        }
        waiting = waiting.filter((other) => other !== letter);
      } catch (error) {
        if (error instanceof PtunedError && failures[error.code].retryable) {
          await setTimeout(retryMilliseconds);
          continue;
        }
        dropped(error);
        waiting = waiting.filter((other) => other !== letter);
      }
    }
    sending = null;
  }

  function add(letter: Letter): void {
    if (isClosed) return;
    waiting.push(letter);
    if (waiting.length > most) waiting.shift();
    sending ??= pump();
  }

  return {
    push: (send) => add({ name: null, send }),
    latest(name, send) {
      // The first may be on its way.
      const index = waiting.findIndex((letter, at) => at > 0 && letter.name === name);
      if (index < 0) add({ name, send });
      else waiting[index] = { name, send };
    },
    async flush(signal) {
      for (let patience = lastMilliseconds; sending !== null && patience > 0; ) {
        const begun = Date.now();
        await Promise.race([sending, setTimeout(100)]);
        if (signal.aborted) patience -= Date.now() - begun;
      }
    },
    close() {
      isClosed = true;
      waiting = [];
    },
  };
}
