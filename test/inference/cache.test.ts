import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createCache } from '../../src/inference/cache.ts';

test('keeps within its weight, dropping what was used least recently', async () => {
  const cache = createCache<string>(10, (value) => value.length);
  let loads = 0;
  const get = (key: string) =>
    cache.get(key, async () => {
      loads++;
      return key.repeat(4);
    });
  await get('a');
  await get('b');
  await get('a');
  await get('c');
  assert.deepEqual(cache.size(), { entries: 2, weight: 8 });
  assert.equal(loads, 3);
  await get('a');
  assert.equal(loads, 3);
  await get('b');
  assert.equal(loads, 4);
  cache.delete('b');
  assert.deepEqual(cache.size(), { entries: 1, weight: 4 });
});

test('serves but does not keep what is heavier than the limit', async () => {
  const cache = createCache<number>(10, (value) => value);
  assert.equal(await cache.get('a', async () => 11), 11);
  assert.deepEqual(cache.size(), { entries: 0, weight: 0 });
});

test('callers at the same time share one load; a failure is not kept', async () => {
  const cache = createCache<number>(10, () => 1);
  let loads = 0;
  const failing = () =>
    cache.get('a', async () => {
      loads++;
      throw new Error('no');
    });
  const outcomes = await Promise.allSettled([failing(), failing()]);
  assert.deepEqual(
    outcomes.map(({ status }) => status),
    ['rejected', 'rejected'],
  );
  assert.equal(loads, 1);
  assert.equal(await cache.get('a', async () => 5), 5);
});
