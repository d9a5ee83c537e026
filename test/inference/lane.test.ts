import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { PtunedError } from '../../src/errors.ts';
import type { Ticket } from '../../src/inference/batch.ts';
import { createLane, type Lane } from '../../src/inference/lane.ts';
import { defaultLimits, type Limits } from '../../src/inference/limits.ts';
import { createTurns, type Turns } from '../../src/inference/turns.ts';
import type { PromptTable } from '../../src/lm/types.ts';
import { createFakeLm, type FakeLm, type FakeLmOptions } from '../support/fake-lm.ts';

const shape = { kind: 'causal', vocabulary: 12, width: 4 } as const;
const never = () => new AbortController().signal;

interface Setup {
  lane: Lane;
  lm: FakeLm;
}

async function openLane(
  options: Partial<FakeLmOptions> = {},
  limits: Partial<Limits> = {},
  turns: Turns = createTurns(),
): Promise<Setup> {
  const lm = createFakeLm({ ...shape, ...options });
  const lane = createLane({ ...defaultLimits(), ...limits }, turns.wake);
  turns.join(lane);
  lane.start({ predictor: await lm.predictor(), width: shape.width, pad: 0, observe: () => undefined });
  return { lane, lm };
}

const prompts: PromptTable[] = [2, 3, 1].map((rows, p) => ({
  rows,
  width: shape.width,
  values: Float32Array.from({ length: rows * shape.width }, (_, i) => Math.cos(p * 31 + i)),
}));

/** Row `i` of a fixed set: lengths 1 to 9, with the slots of prompt `i % 4` (3: none). */
function ticket(i: number, take: Ticket['take'], grows = 0): Ticket {
  const prompt = prompts[i % 4] ?? null;
  const words = Array.from({ length: 1 + ((i * 5) % 9) }, (_, t) => (i * 3 + t * 7) % shape.vocabulary);
  const virtual = Array.from({ length: prompt?.rows ?? 0 }, (_, slot) => slot);
  const ids = [...virtual.map(() => 1), ...words];
  return {
    row: { ids, slots: [...virtual, ...words.map(() => -1)], target: ids.length - 1, label: -1, cut: 0 },
    prompt: prompt && { place: 'embeddings', table: prompt, key: `prompt ${i % 4}`, lead: { ids: [], slots: [] } },
    grows,
    take,
  };
}

async function logitsOf(lane: Lane, i: number): Promise<Float32Array> {
  let found!: Float32Array;
  const take = (logits: Float32Array) => {
    found = logits.slice();
    return null;
  };
  await lane.submit('score', [ticket(i, take)], never());
  return found;
}

/** Greedy generation of `count` tokens; returns them. */
async function generate(lane: Lane, i: number, count: number, signal = never()): Promise<number[]> {
  const tokens: number[] = [];
  const take = (logits: Float32Array) => {
    tokens.push(logits.indexOf(Math.max(...logits)));
    return tokens.length === count ? null : tokens.at(-1)!;
  };
  await lane.submit('generate', [ticket(i, take, count - 1)], signal);
  return tokens;
}

test('what a row gets does not depend on who runs with it: scores', async () => {
  const { lane, lm } = await openLane();
  const alone: Float32Array[] = [];
  for (let i = 0; i < 40; i++) alone.push(await logitsOf(lane, i));
  assert.equal(lm.runs.length, 40);
  const together = await Promise.all(Array.from({ length: 40 }, (_, i) => logitsOf(lane, i)));
  assert.ok(lm.runs.length - 40 <= 6, `${lm.runs.length - 40} runs`);
  assert.deepEqual(together, alone);
  assert.notDeepEqual(alone[0], alone[4]);
});

test('what a row gets does not depend on who runs with it: generation of several lengths', async () => {
  const { lane, lm } = await openLane();
  const count = (i: number) => 1 + (i % 7);
  const alone: number[][] = [];
  for (let i = 0; i < 24; i++) alone.push(await generate(lane, i, count(i)));
  const before = lm.runs.length;
  const together = await Promise.all(Array.from({ length: 24 }, (_, i) => generate(lane, i, count(i))));
  assert.deepEqual(together, alone);
  assert.ok(lm.runs.length - before < before / 3, `${lm.runs.length - before} runs instead of ${before}`);
});

test('rows that arrive while the LM runs make up the next run', async () => {
  const { lane, lm } = await openLane({ runMs: 30 });
  const first = logitsOf(lane, 0);
  await sleep(10);
  await Promise.all([first, ...Array.from({ length: 8 }, (_, i) => logitsOf(lane, i * 9))]);
  assert.deepEqual(
    lm.runs.map(({ rows }) => rows),
    [1, 8],
  );
});

test('scores are not held up by a long generation, nor generations by each other', async () => {
  const { lane, lm } = await openLane({ runMs: 2 });
  const long = generate(lane, 3, 100);
  await sleep(20);
  const before = lm.runs.length;
  await Promise.all([logitsOf(lane, 1), generate(lane, 7, 3)]);
  assert.ok(lm.runs.length - before < 15, `${lm.runs.length - before} runs`);
  assert.equal((await long).length, 100);
});

test('two LMs take turns, whatever waits for one of them', async () => {
  const turns = createTurns();
  const order: string[] = [];
  const limits = { batchRows: 4 };
  const busy = await openLane({ beforeRun: () => void order.push('busy'), runMs: 2 }, limits, turns);
  const quiet = await openLane({ beforeRun: () => void order.push('quiet'), runMs: 2 }, limits, turns);
  const many = Array.from({ length: 80 }, () => logitsOf(busy.lane, 0));
  for (let i = 0; i < 5; i++) await logitsOf(quiet.lane, i);
  await Promise.all(many);
  assert.equal(order.length, 25);
  assert.ok(order.lastIndexOf('quiet') <= 14, order.join(' '));
});

test('a full queue refuses at once and says when to come back; what was taken is done', async () => {
  const { lane } = await openLane({ runMs: 20 }, { waitingRows: 8, batchRows: 4 });
  const outcomes = await Promise.allSettled(Array.from({ length: 50 }, (_, i) => logitsOf(lane, i)));
  const refused = outcomes.filter((outcome) => outcome.status === 'rejected');
  assert.equal(outcomes.length - refused.length, 8);
  for (const { reason } of refused) {
    assert.ok(reason instanceof PtunedError && reason.code === 'overloaded', String(reason));
    assert.ok(Number(reason.details.retryAfter) >= 1);
  }
  await logitsOf(lane, 1);
});

test('the bound counts tokens too, and one large request passes an empty queue', async () => {
  const { lane } = await openLane({ runMs: 10 }, { waitingRows: 100, waitingTokens: 20 });
  const rows = Array.from({ length: 30 }, (_, i) => ticket(i, () => null));
  const large = lane.submit('score', rows, never());
  await assert.rejects(logitsOf(lane, 0), (error) => error instanceof PtunedError && error.code === 'overloaded');
  await large;
});

test('what waits too long is refused, what runs is not', async () => {
  const { lane } = await openLane({ runMs: 60 }, { waitMs: 20, batchRows: 1 });
  const outcomes = Promise.allSettled([logitsOf(lane, 0), logitsOf(lane, 1), logitsOf(lane, 2)]);
  await sleep(40);
  lane.expire();
  assert.deepEqual(
    (await outcomes).map(({ status }) => status),
    ['fulfilled', 'rejected', 'rejected'],
  );
});

test('a client that goes leaves the queue at once, and its generation ends', async () => {
  const { lane, lm } = await openLane({ runMs: 5 });
  const gone = new AbortController();
  const generation = generate(lane, 0, 1000, gone.signal);
  const waiting = lane.submit('score', [ticket(1, () => assert.fail('was run'))], AbortSignal.any([gone.signal]));
  gone.abort(new Error('gone'));
  await assert.rejects(generation, /gone/);
  await assert.rejects(waiting, /gone/);
  assert.equal(lane.waiting(), 0);
  await lane.idle();
  assert.ok(lm.runs.length <= 3, `${lm.runs.length} runs`);
  await assert.rejects(generate(lane, 0, 3, gone.signal), /gone/);
});

test('one of a generating batch leaves, the others go on as if it had not been there', async () => {
  const { lane } = await openLane({ runMs: 1 });
  const expected = await generate(lane, 8, 20);
  const gone = new AbortController();
  const leaving = generate(lane, 0, 1000, gone.signal);
  const staying = generate(lane, 8, 20);
  await sleep(15);
  gone.abort(new Error('gone'));
  await assert.rejects(leaving, /gone/);
  assert.deepEqual(await staying, expected);
});

test('a failing run ends the requests of its batch only', async () => {
  const { lane } = await openLane({
    beforeRun: ({ ids }) => {
      if (ids.includes(77n)) throw new Error('no memory');
    },
  });
  const poison: Ticket = { ...ticket(3, () => null), prompt: null };
  poison.row = { ids: [77], slots: [-1], target: 0, label: -1, cut: 0 };
  await assert.rejects(lane.submit('score', [poison], never()), /no memory/);
  await assert.rejects(lane.submit('generate', [{ ...poison, grows: 3 }], never()), /no memory/);
  await lane.submit('score', [ticket(3, () => null)], never());
});

test('a request whose reading fails ends alone', async () => {
  const { lane, lm } = await openLane();
  const throwing = ticket(0, () => {
    throw new Error('not finite');
  });
  const outcomes = await Promise.allSettled([
    lane.submit('score', [throwing, ticket(4, () => null)], never()),
    lane.submit('score', [ticket(8, () => null)], never()),
  ]);
  assert.deepEqual(
    outcomes.map(({ status }) => status),
    ['rejected', 'fulfilled'],
  );
  assert.equal(lm.runs.length, 1);
});

test('requests wait for an LM that is being opened', async () => {
  const turns = createTurns();
  const lane = createLane(defaultLimits(), turns.wake);
  turns.join(lane);
  const early = logitsOf(lane, 0);
  await sleep(10);
  assert.equal(lane.waiting(), 1);
  const lm = createFakeLm(shape);
  lane.start({ predictor: await lm.predictor(), width: shape.width, pad: 0, observe: () => undefined });
  assert.equal((await early).length, shape.vocabulary);
  lane.fail(new Error('unused'));
});
