import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { epochOrder, padBatch, splitDev } from '../../src/data/batches.ts';
import type { RenderedRow } from '../../src/tasks/types.ts';

const sorted = (values: ArrayLike<number>) => Array.from(values).sort((a, b) => a - b);
const upTo = (count: number) => Array.from({ length: count }, (_, i) => i);

test('a batch is padded on the right', () => {
  const rows: RenderedRow[] = [
    { ids: [7, 1, 8], slots: [-1, 0, -1], target: 2, label: 4, cut: 0 },
    { ids: [1, 9], slots: [1, -1], target: 0, label: -1, cut: 3 },
  ];
  const { batch, labels } = padBatch(rows, 5);
  assert.deepEqual(batch, {
    rows: 2,
    length: 3,
    ids: BigInt64Array.of(7n, 1n, 8n, 1n, 9n, 5n),
    mask: BigInt64Array.of(1n, 1n, 1n, 1n, 1n, 0n),
    slots: BigInt64Array.of(-1n, 0n, -1n, 1n, -1n, -1n),
    targets: BigInt64Array.of(2n, 0n),
  });
  assert.deepEqual(labels, BigInt64Array.of(4n, -1n));
});

test('the order of an epoch is a permutation that depends on seed and epoch alone', () => {
  const seed = fc.integer({ min: 0, max: 2 ** 31 - 1 });
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 200 }), seed, fc.nat(1000), (count, seedValue, epoch) => {
      const order = epochOrder(count, seedValue, epoch);
      assert.deepEqual(sorted(order), upTo(count));
      assert.deepEqual(order, epochOrder(count, seedValue, epoch));
    }),
  );
  const different = new Set(upTo(50).map((epoch) => epochOrder(100, 34, epoch).join()));
  for (const other of upTo(50)) different.add(epochOrder(100, other, 1000).join());
  assert.equal(different.size, 100);
});

test('every row is as likely in every place, over epochs and over seeds', () => {
  const [count, epochs] = [8, 4000];
  for (const orderOf of [(i: number) => epochOrder(count, 34, i), (i: number) => epochOrder(count, i, 0)]) {
    const seen = new Float64Array(count * count);
    let follows = 0;
    for (let i = 0; i < epochs; i++) {
      const order = orderOf(i);
      for (let place = 0; place < count; place++) seen[place * count + order[place]!]!++;
      if (i > 0 && orderOf(i - 1)[0] === order[0]) follows++;
    }
    // Chi-square with 49 degrees of freedom: 100 is passed once in 50,000 times by chance.
    const expected = epochs / count;
    const chiSquare = seen.reduce((sum, n) => sum + (n - expected) ** 2 / expected, 0);
    assert.ok(chiSquare < 100, `chi-square ${chiSquare}`);
    // Neighbouring epochs begin with the same row once in eight times (standard deviation 21).
    assert.ok(Math.abs(follows - epochs / count) < 100, `${follows}`);
  }
});

test('buckets group rows of like length, keep the permutation and leave the short batch last', () => {
  fc.assert(
    fc.property(
      fc.array(fc.integer({ min: 1, max: 60 }), { minLength: 1, maxLength: 300 }),
      fc.integer({ min: 1, max: 16 }),
      (lengths, batchSize) => {
        const order = epochOrder(lengths.length, 34, 2, { lengths, batchSize });
        assert.deepEqual(sorted(order), upTo(lengths.length));
        assert.deepEqual(order, epochOrder(lengths.length, 34, 2, { lengths, batchSize }));
      },
    ),
  );
  const lengths = upTo(1000).map((i) => 5 + ((i * 7919) % 50));
  const padding = (order: Uint32Array) => {
    let padded = 0;
    for (let start = 0; start < order.length; start += 16) {
      padded += 16 * Math.max(...Array.from(order.subarray(start, start + 16), (row) => lengths[row]!));
    }
    return padded / lengths.reduce((sum, length) => sum + length, 0);
  };
  const bucketed = epochOrder(1000, 34, 0, { lengths, batchSize: 16 });
  assert.ok(padding(bucketed) < 1.1, `${padding(bucketed)}`);
  assert.ok(padding(epochOrder(1000, 34, 0)) > 1.5);
  // Batches do not come from short to long.
  const firsts = Array.from({ length: 62 }, (_, i) => lengths[bucketed[16 * i]!]!);
  assert.ok(firsts.slice(1).filter((length, i) => length < firsts[i]!).length > 10);
});

test('a fifth is split off for dev, at least one row', () => {
  for (const [count, size] of [
    [1, 1],
    [2, 1],
    [9, 1],
    [10, 2],
    [101, 20],
  ] as const) {
    const { train, dev } = splitDev(count, 34);
    assert.deepEqual([train.length, dev.length], [count - size, size]);
    assert.deepEqual(sorted([...train, ...dev]), upTo(count));
    assert.deepEqual([sorted(train), sorted(dev)], [[...train], [...dev]]);
    assert.deepEqual(splitDev(count, 34), { train, dev });
  }
  assert.notDeepEqual(splitDev(100, 34), splitDev(100, 35));
});
