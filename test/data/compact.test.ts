import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { createRowStore, pickRows } from '../../src/data/compact.ts';
import type { RenderedRow } from '../../src/tasks/types.ts';

const integer = (min: number, max: number) => fc.integer({ min, max });
const row: fc.Arbitrary<RenderedRow> = fc
  .record({
    ids: fc.array(integer(0, 2 ** 31 - 1), { maxLength: 30 }),
    decoder: fc.option(fc.array(integer(0, 5), { maxLength: 2 }), { nil: undefined }),
    target: integer(0, 4000),
    label: integer(-1, 200_000),
    cut: integer(0, 70_000),
  })
  .map(({ decoder, ...rest }) => ({
    ...rest,
    slots: rest.ids.map((id, i) => (id % 3 === 0 ? i : -1)),
    ...(decoder === undefined ? {} : { decoder }),
  }));

test('rows come back as they were put in, by place and one after the other', () => {
  fc.assert(
    fc.property(fc.array(row, { maxLength: 50 }), (rows) => {
      const store = createRowStore();
      for (const one of rows) store.add(one);
      assert.equal(store.length, rows.length);
      assert.deepEqual([...store], rows);
      assert.equal(store.at(rows.length), undefined);
      assert.equal(store.at(-1), undefined);
      const order = Uint32Array.from(rows, (_, i) => rows.length - 1 - i);
      assert.deepEqual([...pickRows(store, order)], [...rows].reverse());
      assert.equal(pickRows(store, order).at(rows.length), undefined);
    }),
  );
});

test('a quarter of a million rows take less than 120 bytes each', () => {
  const store = createRowStore();
  const count = 250_000;
  const before = process.memoryUsage();
  for (let i = 0; i < count; i++) {
    const ids = Array.from({ length: 8 + (i % 8) }, (_, k) => i + k);
    store.add({ ids, slots: ids.map((_, k) => (k < 3 ? k : -1)), target: 7, label: i, cut: 0 });
  }
  const after = process.memoryUsage();
  assert.ok((after.arrayBuffers - before.arrayBuffers) / count < 120);
  assert.deepEqual(store.at(count - 1)!.ids[0], count - 1);
  // Few arrays serve all rows.
  assert.equal(store.at(0)!.slots, store.at(8)!.slots);
});
