import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { lowest } from '../../src/tuning/search.ts';

test('the lowest of some: as a stable sort has them', () => {
  const values = fc.array(fc.float({ noNaN: true, min: -4, max: 4 }).map(Math.round), { minLength: 1, maxLength: 60 });
  fc.assert(
    fc.property(values, fc.integer({ min: 1, max: 70 }), fc.func(fc.boolean()), (list, count, isAmong) => {
      const among = Int32Array.from(list.keys()).filter((id) => isAmong(id));
      const expected = [...among].sort((a, b) => list[a]! - list[b]! || a - b).slice(0, count);
      assert.deepEqual(lowest(Float32Array.from(list), among, count), expected);
    }),
  );
});
