/** Rows whose beginning is taken from kept keys and values: logits and generation as of rows that are run whole. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { padBatch } from '../../src/data/batches.ts';
import { startBehind } from '../../src/lm/behind.ts';
import { type CachedSession, openCached } from '../../src/lm/cache.ts';
import { inspectDirectory } from '../../src/lm/inspect.ts';
import { createPredictor } from '../../src/lm/predict.ts';
import { createStarts, keepsLogits } from '../../src/lm/starts.ts';
import type { Leading, LmBatch, PromptTable } from '../../src/lm/types.ts';
import type { RenderedRow } from '../../src/tasks/types.ts';
import { relativeError } from '../../src/tuning/reference.ts';

const megabyte = 2 ** 20;

async function load(name: string) {
  const folder = fileURLToPath(new URL(`../fixtures/past/${name}`, import.meta.url));
  const lm = { ...inspectDirectory(folder), redundant: 'prefixes' as const };
  const options = { threads: 1, device: 'cpu' as const, directory: lm.graphDirectory };
  const width = lm.embedding.width;
  const random = (rows: number, wide: number, phase: number): PromptTable => ({
    ...{ rows, width: wide },
    values: Float32Array.from({ length: rows * wide }, (_, i) => 0.5 * Math.sin(phase + 1.7 * i)),
  });
  return { lm, options, table: random(5, width, 0), random };
}

function row(ids: number[], slots = ids.map(() => -1)): RenderedRow {
  return { ids, slots, target: ids.length - 1, label: -1, cut: 0 };
}

/** Two tuned prompts of three and two rows with words between and behind, and a plain row. */
const [first, second]: [Leading, Leading] = [
  { key: 'first', tokens: 4 },
  { key: 'second', tokens: 2 },
];
const rows: RenderedRow[] = [
  row([1, 1, 7, 1, 20, 21, 22], [0, 1, -1, 2, -1, -1, -1]),
  row([1, 1, 30, 31], [3, 4, -1, -1]),
  row([1, 1, 7, 1, 23], [0, 1, -1, 2, -1]),
  row([40, 41, 42]),
  row([1, 1, 7, 1, 20, 21, 25], [0, 1, -1, 2, -1, -1, -1]),
];
const leading = [first, second, first, null, first];
const mixed: LmBatch = { ...padBatch(rows, 0).batch, leading };
const single: LmBatch = { ...padBatch([rows[0]!, rows[2]!, rows[4]!], 0).batch, leading: [first, first, first] };

/** A session that counts the tokens it is given. */
function counting(session: CachedSession): CachedSession & { tokens(): number } {
  let tokens = 0;
  return {
    ...session,
    run(batch, ...rest) {
      tokens += batch.mask.reduce((sum, one) => sum + Number(one), 0);
      return session.run(batch, ...rest);
    },
    tokens: () => tokens,
  };
}

for (const name of ['gpt2', 'llama']) {
  test(`${name}: kept beginnings of different lengths give the logits of whole rows`, async () => {
    const { lm, options, table } = await load(name);
    const [keeping, whole] = [
      await createPredictor(lm, { ...options, keptBytes: megabyte }),
      await createPredictor({ ...lm, redundant: undefined }, options),
    ];
    for (const batch of [mixed, single, mixed, single]) {
      const expected = await whole.logits(batch, table);
      assert.ok(relativeError(await keeping.logits(batch, table), expected) < 1e-5);
    }
    await keeping.close();
    await whole.close();
  });

  test(`${name}: what rows begin with is run once, whatever batch it is in`, async () => {
    const { lm, options, table } = await load(name);
    const session = counting(await openCached(lm, options));
    const starts = createStarts(session, megabyte);
    const lengths = (batch: LmBatch) => batch.mask.reduce((sum, one) => sum + Number(one), 0);
    const begun = await starts.of(mixed, table);
    assert.equal(session.tokens(), 4 + 2);
    assert.equal(lengths(begun.batch), 3 + 2 + 1 + 3 + 3);
    assert.deepEqual(begun.start.before, [4, 2, 4, 0, 4]);
    assert.deepEqual(begun.start.groups, [0, 1, 0, 2, 0]);
    assert.deepEqual([...begun.batch.targets].map(Number), [2, 1, 0, 2, 2]);
    await starts.of(single, table);
    assert.equal(session.tokens(), 4 + 2);
    await session.close();
  });

  test(`${name}: what does not fit is computed again and gives the same`, async () => {
    const { lm, options, table } = await load(name);
    const session = counting(await openCached(lm, options));
    const token = session.past.reduce((sum, { heads, size }) => sum + 4 * heads * size, 0);
    // Room for the second's two tokens, not for the first's four.
    const starts = createStarts(session, 3 * token);
    const before = await starts.of(mixed, table);
    const again = await starts.of(mixed, table);
    assert.equal(session.tokens(), 4 + 2 + 4);
    for (const [i, feed] of before.start.past.entries()) assert.deepEqual(again.start.past[i], feed);
    await session.close();
  });

  test(`${name}: words behind a prefix are kept with it`, async () => {
    const { lm, options, table, random } = await load(name);
    const width = lm.inputs
      .filter(({ role }) => role === 'past')
      .reduce((sum, { shape }) => sum + Number(shape[1]) * Number(shape[3]), 0);
    const [long, short] = [random(3, width, 1), random(1, width, 2)];
    const texts = [row([7, 8, 9, 10]), row([7, 8, 11]), row([12, 13, 14]), row([7, 8, 9])];
    const prefixes = [long, short, null, long];
    const batch = { ...padBatch(texts, 0).batch, prefixes };
    const keys = ['long', 'short', 'none', 'long'];
    const hinted = { ...batch, leading: keys.map((key) => ({ key, tokens: 2 })) };
    const keeping = await createPredictor(lm, { ...options, keptBytes: megabyte });
    const whole = await createPredictor({ ...lm, redundant: undefined }, options);
    const expected = await whole.logits(batch, table);
    for (let time = 0; time < 2; time++) assert.ok(relativeError(await keeping.logits(hinted, table), expected) < 1e-5);
    await keeping.close();
    await whole.close();
  });

  test(`${name}: generation behind kept beginnings gives the logits of the whole text`, async () => {
    const { lm, options, table } = await load(name);
    const keeping = await createPredictor(lm, { ...options, keptBytes: megabyte });
    const whole = await createPredictor({ ...lm, redundant: undefined }, options);
    const texts = rows.map(({ ids, slots }) => ({ ids: [...ids], slots: [...slots] }));
    const decoding = await keeping.decode(mixed, table);
    for (let step = 0; step < 3; step++) {
      const now = decoding.rows.map((index) => row(texts[index]!.ids, texts[index]!.slots));
      const expected = await whole.logits(padBatch(now, 0).batch, table);
      assert.ok(relativeError(decoding.logits, expected) < 1e-5, `step ${step}`);
      // The plain row ends early; two rows go on with the same token behind different texts.
      if (step === 1) decoding.keep([0, 1, 2, 4]);
      const tokens = decoding.rows.map((index) => (index < 2 ? 33 : 34 + index));
      for (const [at, index] of decoding.rows.entries()) {
        texts[index]!.ids.push(tokens[at]!);
        texts[index]!.slots.push(-1);
      }
      await decoding.advance(tokens);
    }
    await keeping.close();
    await whole.close();
  });
}

test('a row of nothing but its beginning is run whole, for its target must be left', async () => {
  const { lm, options, table } = await load('gpt2');
  const session = counting(await openCached(lm, options));
  const batch = { ...padBatch([row([1, 1], [3, 4])], 0).batch, leading: [second] };
  const { start } = await createStarts(session, megabyte).of(batch, table);
  assert.deepEqual(start, startBehind(session.past, [null]));
  assert.equal(session.tokens(), 0);
  await session.close();
});

test('an LM that takes cached tokens otherwise than its own is noticed', async () => {
  for (const name of ['gpt2', 'llama']) {
    const { lm, options } = await load(name);
    const session = await openCached(lm, options);
    const { width } = lm.embedding;
    assert.equal(await keepsLogits(session, width), true);
    const uncounted: CachedSession = {
      ...session,
      run: (batch, table, start, wanted) =>
        session.run(batch, table, { ...start, before: start.before.map(() => 0) }, wanted),
    };
    assert.equal(await keepsLogits(uncounted, width), false);
    const unmasked: CachedSession = {
      ...session,
      run: (batch, table, start, wanted) =>
        session.run(batch, table, { ...start, mask: start.mask.map((row) => row.map(() => 1n)) }, wanted),
    };
    assert.equal(await keepsLogits(unmasked, width), false);
    await session.close();
  }
});
