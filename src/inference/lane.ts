/**
 * Everything that waits for or runs on one LM. Rows of all requests share its runs, whatever tuned prompts they use:
 * rows that only read logits in one batch, rows that generate in others, and each of these in turn.
 */
import { performance } from 'node:perf_hooks';
import { type Ticket, tokensOf } from './batch.ts';
import type { Limits } from './limits.ts';
import { createQueue, type Queue } from './queue.ts';
import { openRequest, type Request } from './request.ts';
import { beginRows, type Generation, type RunContext, scoreRows } from './runs.ts';
import type { TurnTaker } from './turns.ts';

/** `score` reads logits at targets, `generate` appends tokens. */
export type Work = 'score' | 'generate';

export interface Lane extends TurnTaker {
  /** Throws overloaded unless that many rows more, and tokens where known, would be taken now. */
  checkRoom(work: Work, rows: number, tokens?: number): void;
  /**
   * Runs a request's rows and resolves when each is done. Rejects with overloaded, with the LM's failure, with what a
   * ticket throws, or with the signal's reason as soon as the client has gone.
   */
  submit(work: Work, tickets: readonly Ticket[], signal: AbortSignal): Promise<void>;
  /** Gives the lane its LM; until then requests wait. */
  start(context: RunContext): void;
  /** Rows waiting. */
  waiting(): number;
  /** Refuses rows that have waited too long. */
  expire(): void;
  /** Ends every request with this error. */
  fail(error: unknown): void;
  busy(): boolean;
  /** Resolves when no request is open and nothing runs. */
  idle(): Promise<void>;
}

/** `wake` is called when there is something new to run; `now` gives milliseconds of any origin. */
export function createLane(limits: Limits, wake: () => void, now: () => number = () => performance.now()): Lane {
  let context: RunContext | null = null;
  let turning = false;
  const requests = new Set<Request>();
  const idlers: (() => void)[] = [];
  const queues = {
    score: createQueue(limits, now),
    generate: createQueue(limits, now),
  };
  const rotation = createRotation(queues, limits);

  const busy = () => requests.size > 0 || turning;
  function tellIdlers(): void {
    if (!busy()) for (const resolve of idlers.splice(0)) resolve();
  }

  function ended(request: Request): void {
    requests.delete(request);
    queues.score.drop(request);
    queues.generate.drop(request);
    tellIdlers();
  }

  function expire(): void {
    queues.score.expire();
    queues.generate.expire();
  }

  return {
    ready: () => (context === null ? 0 : rotation.ready()),
    async turn() {
      if (context === null) return;
      expire();
      turning = true;
      await rotation.turn(context);
      turning = false;
      tellIdlers();
    },
    checkRoom: (work, rows, tokens = 0) => queues[work].checkRoom(rows, tokens),
    async submit(work, tickets, signal) {
      signal.throwIfAborted();
      const tokens = tickets.reduce((sum, ticket) => sum + tokensOf(ticket), 0);
      queues[work].checkRoom(tickets.length, tokens);
      const { request, done } = openRequest(tickets.length, signal, ended);
      requests.add(request);
      const deadline = now() + limits.waitMs;
      queues[work].add(tickets.map((ticket) => ({ ticket, request, deadline })));
      wake();
      return done;
    },
    start(given) {
      context = given;
      wake();
    },
    waiting: () => queues.score.rows + queues.generate.rows,
    expire,
    fail(error) {
      for (const request of [...requests]) request.end(error);
    },
    busy,
    idle: () => (busy() ? new Promise((resolve) => idlers.push(resolve)) : Promise.resolve()),
  };
}

/** Scoring, beginning and every generation under way take turns, one bounded run each. */
function createRotation(queues: Record<Work, Queue>, limits: Limits) {
  const order: ('score' | 'begin' | Generation)[] = ['score', 'begin'];
  const bounds = { rows: limits.batchRows, tokens: limits.batchTokens };
  const generations = () => order.length - 2;

  function ready(unit: (typeof order)[number]): number {
    if (unit === 'score') return queues.score.rows;
    if (unit === 'begin') return generations() < limits.generations ? queues.generate.rows : 0;
    return 1;
  }

  return {
    ready: () => order.reduce((sum, unit) => sum + ready(unit), 0),
    async turn(context: RunContext): Promise<void> {
      const next = order.findIndex((unit) => ready(unit) > 0);
      if (next < 0) return;
      const unit = order[next]!;
      order.push(...order.splice(next, 1));
      if (unit === 'score') {
        await scoreRows(context, queues.score.take(bounds));
        return queues.score.served();
      }
      if (unit === 'begin') {
        const generation = await beginRows(context, queues.generate.take(bounds));
        queues.generate.served();
        if (generation !== null) order.push(generation);
        return;
      }
      if (!(await unit.advance())) order.splice(order.indexOf(unit), 1);
    },
  };
}
