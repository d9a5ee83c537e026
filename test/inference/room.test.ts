import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PtunedError } from '../../src/errors.ts';
import type { Ticket } from '../../src/inference/batch.ts';
import { createQueue, type Queue } from '../../src/inference/queue.ts';
import { openRequest } from '../../src/inference/request.ts';
import { createThroughput, hasRoom } from '../../src/inference/room.ts';

const bounds = { waitingRows: 100, waitingTokens: 10_000, aheadMs: 3000, waitMs: 5000 };
const work = (rows: number, tokens: number) => ({ rows, tokens });

test('room: by rows, by tokens, by the time of what is ahead, by the own deadline', () => {
  const cases: [string, boolean, ...Parameters<typeof hasRoom>][] = [
    ['nothing waits', true, work(0, 0), work(1000, 100_000), 100, bounds],
    ['rows', true, work(99, 99), work(1, 1), 0, bounds],
    ['rows', false, work(99, 99), work(2, 2), 0, bounds],
    ['tokens', true, work(2, 9000), work(1, 1000), 0, bounds],
    ['tokens', false, work(2, 9000), work(1, 1001), 0, bounds],
    ['3 s ahead', true, work(30, 300), work(1, 10), 100, bounds],
    ['above 3 s ahead', false, work(30, 301), work(1, 10), 100, bounds],
    ['tokens not counted yet', false, work(30, 301), work(1, 0), 100, bounds],
    ['done in 5 s', true, work(20, 200), work(30, 300), 100, bounds],
    ['done after the deadline', false, work(20, 200), work(30, 301), 100, bounds],
    ['a deadline before aheadMs', false, work(20, 150), work(1, 10), 100, { ...bounds, waitMs: 1000 }],
  ];
  for (const [name, expected, ...given] of cases) assert.equal(hasRoom(...given), expected, name);
});

test('throughput: a mean by time, which forgets', () => {
  const throughput = createThroughput();
  assert.equal(throughput.perSecond(), 0);
  throughput.observe(1000, 1);
  assert.equal(throughput.perSecond(), 1000);
  throughput.observe(1, 0.01);
  assert.ok(throughput.perSecond() > 980, String(throughput.perSecond()));
  for (let i = 0; i < 20; i++) throughput.observe(100, 1);
  assert.ok(Math.abs(throughput.perSecond() - 100) < 1, String(throughput.perSecond()));
});

const tenTokens: Ticket = {
  row: { ids: Array<number>(10).fill(1), slots: Array<number>(10).fill(-1), target: 9, label: -1, cut: 0 },
  prompt: null,
  grows: 0,
  take: () => null,
};

/** A queue on a clock that only `pass` moves. */
function fakeTime() {
  let now = 0;
  const queue = createQueue({ ...bounds, waitMs: 30_000 }, () => now);
  const { request } = openRequest(1000, new AbortController().signal, () => undefined);
  const add = () => queue.add([{ ticket: tenTokens, request, deadline: now + 30_000 }]);
  const run = (rows: number, milliseconds: number) => {
    const taken = queue.take({ rows, tokens: 4096 });
    now += milliseconds;
    queue.served();
    return taken.length;
  };
  return { queue, add, run, pass: (milliseconds: number) => (now += milliseconds) };
}

/** Adds rows of ten tokens until one is refused; how many wait then, and the refusal. */
function fill(queue: Queue, add: () => void): { rows: number; error: PtunedError } {
  for (;;) {
    try {
      queue.checkRoom(1, 10);
    } catch (error) {
      assert.ok(error instanceof PtunedError && error.code === 'overloaded', String(error));
      return { rows: queue.rows, error };
    }
    add();
  }
}

test('a queue takes what the LM serves in about three seconds, as fast as it is now', () => {
  const { queue, add, run } = fakeTime();
  assert.equal(fill(queue, add).rows, bounds.waitingRows);
  // 4 rows in 410 ms: 29 in three seconds, and one more that comes before these are too many.
  assert.equal(run(4, 410), 4);
  while (queue.rows > 10) run(4, 410);
  const { rows, error } = fill(queue, add);
  assert.equal(rows, 30);
  assert.equal(error.details.retryAfter, 4);
  // Twice as fast: after a few seconds twice as many.
  for (let i = 0; i < 60; i++) {
    run(4, 205);
    fill(queue, add);
  }
  assert.ok(queue.rows >= 59 && queue.rows <= 60, `${queue.rows} rows`);
});

test('the time in which other work runs counts, time without work does not', () => {
  const { queue, add, run, pass } = fakeTime();
  for (let i = 0; i < 20; i++) add();
  run(4, 100);
  pass(300);
  run(4, 100);
  // 8 rows in 500 ms: 48 in three seconds.
  const { rows } = fill(queue, add);
  assert.ok(rows >= 40 && rows <= 52, `${rows} rows`);
  while (queue.rows > 0) run(4, 250);
  pass(60_000);
  add();
  run(1, 1000);
  for (let i = 0; i < 2; i++) add();
  // One row alone says nothing of a full run, and an idle minute nothing at all.
  assert.ok(fill(queue, add).rows >= 40);
});
