import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { assemble, pickRows, type Ticket, tokensOf } from '../../src/inference/batch.ts';
import type { PromptTable } from '../../src/lm/types.ts';

const table = (rows: number, first: number): PromptTable => ({
  rows,
  width: 2,
  values: Float32Array.from({ length: rows * 2 }, (_, i) => first + i),
});

function ticket(ids: number[], slots: number[], prompt: PromptTable | null, grows = 0): Ticket {
  return {
    row: { ids, slots, target: ids.length - 1, label: -1, cut: 0 },
    prompt: prompt && { place: 'embeddings', table: prompt, key: 'a prompt', lead: { ids: [], slots: [] } },
    grows,
    take: () => null,
  };
}

test('tables are stacked once each and slots moved to where their table begins', () => {
  const [one, other] = [table(2, 10), table(3, 20)];
  const { batch, table: stacked } = assemble(
    [
      ticket([5, 5, 7], [0, 1, -1], one),
      ticket([8], [-1], null),
      ticket([5, 9, 5, 5], [0, -1, 2, 1], other),
      ticket([5], [1], one),
    ],
    2,
    99,
  );
  assert.deepEqual([...stacked.values], [10, 11, 12, 13, 20, 21, 22, 23, 24, 25]);
  assert.equal(stacked.rows, 5);
  assert.deepEqual([batch.rows, batch.length], [4, 4]);
  const rows = (values: BigInt64Array) =>
    Array.from({ length: 4 }, (_, r) => [...values.subarray(r * 4, r * 4 + 4)].map(Number));
  assert.deepEqual(rows(batch.ids), [
    [5, 5, 7, 99],
    [8, 99, 99, 99],
    [5, 9, 5, 5],
    [5, 99, 99, 99],
  ]);
  assert.deepEqual(rows(batch.mask), [
    [1, 1, 1, 0],
    [1, 0, 0, 0],
    [1, 1, 1, 1],
    [1, 0, 0, 0],
  ]);
  assert.deepEqual(rows(batch.slots), [
    [0, 1, -1, -1],
    [-1, -1, -1, -1],
    [2, -1, 4, 3],
    [1, -1, -1, -1],
  ]);
  assert.deepEqual([...batch.targets].map(Number), [2, 0, 3, 0]);
});

test('a batch without tuned prompts has a table that no slot names', () => {
  const { batch, table: stacked } = assemble([ticket([1, 2], [-1, -1], null)], 3, 0);
  assert.deepEqual([stacked.rows, stacked.width, stacked.values.length], [1, 3, 3]);
  assert.ok(batch.slots.every((slot) => slot === -1n));
});

test('a run keeps its limits, has the oldest row, little padding, and empties any queue', () => {
  const lengths = fc.array(fc.integer({ min: 1, max: 600 }), { minLength: 1, maxLength: 80 });
  fc.assert(
    fc.property(lengths, (all) => {
      let waiting = all.map((length, order) => ({ order, ticket: ticket(Array(length).fill(1), [], null) }));
      let runs = 0;
      while (waiting.length > 0) {
        const picked = pickRows(waiting, { rows: 16, tokens: 1024 });
        assert.ok(picked.includes(waiting[0]!));
        const sizes = picked.map((entry) => entry.ticket.row.ids.length);
        const padded = Math.max(...sizes) * sizes.length;
        const real = sizes.reduce((sum, size) => sum + size, 0);
        assert.ok(sizes.length <= 16 && (padded <= 1024 || sizes.length === 1));
        assert.ok(padded - real <= 0.25 * real + 64, `${padded} for ${real}`);
        waiting = waiting.filter((entry) => !picked.includes(entry));
        runs++;
      }
      assert.ok(runs <= all.length);
    }),
    { numRuns: 100 },
  );
});

test('rows of one length fill a run; room to grow counts as length', () => {
  const same = Array.from({ length: 40 }, () => ({ ticket: ticket(Array(10).fill(1), [], null) }));
  assert.equal(pickRows(same, { rows: 32, tokens: 4096 }).length, 32);
  const growing = Array.from({ length: 40 }, () => ({ ticket: ticket(Array(10).fill(1), [], null, 118) }));
  assert.equal(pickRows(growing, { rows: 32, tokens: 1024 }).length, 8);
});

test('prefixes stand beside the batch, row by row, and count as its tokens', () => {
  const values = { ...table(3, 0), width: 8 };
  const prefix = { place: 'past' as const, table: values, key: 'a prefix', lead: { ids: [], slots: [] } };
  const rows = [
    { ...ticket([5, 6], [-1, -1], null), prompt: prefix },
    ticket([8], [-1], null),
    ticket([5, 9], [1, -1], table(2, 10)),
  ];
  const { batch, table: stacked } = assemble(rows, 2, 99);
  assert.deepEqual(batch.prefixes, [prefix.table, null, null]);
  assert.deepEqual(Array.from(batch.slots, Number), [-1, -1, -1, -1, 1, -1]);
  assert.deepEqual([...stacked.values], [10, 11, 12, 13]);
  assert.equal(tokensOf(rows[0]!), 5);
  assert.equal(assemble(rows.slice(1), 2, 99).batch.prefixes, undefined);
});

test("a row that begins as all of its prompt's rows do says so", () => {
  const [one, other] = [table(2, 10), table(2, 20)];
  const lead = { ids: [5, 5, 7], slots: [0, 1, -1] };
  const of = (prompt: PromptTable, key: string, ids: number[], slots: number[]): Ticket => ({
    ...ticket(ids, slots, null),
    prompt: { place: 'embeddings', table: prompt, key, lead },
  });
  const { batch } = assemble(
    [
      of(one, 'one', [5, 5, 7, 8], [0, 1, -1, -1]),
      of(other, 'other', [5, 5, 7, 9], [0, 1, -1, -1]),
      of(one, 'one', [5, 5, 6, 8], [0, 1, -1, -1]),
      of(one, 'one', [5, 5, 7, 8], [0, -1, -1, 1]),
      of(one, 'one', [5, 5], [0, 1]),
      ticket([5, 5, 7], [-1, -1, -1], null),
    ],
    2,
    99,
  );
  const [first, second] = [
    { key: 'one', tokens: 3 },
    { key: 'other', tokens: 3 },
  ];
  assert.deepEqual(batch.leading, [first, second, null, null, null, null]);
});
