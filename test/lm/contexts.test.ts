/** Rows behind what is read of them before their first pseudo token: loss, gradient and scores of whole rows. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { padBatch } from '../../src/data/batches.ts';
import { openScorerBehind, openTrainerBehind } from '../../src/lm/behind.ts';
import { contextLengths, createContexts, stepWork } from '../../src/lm/contexts.ts';
import { inspectDirectory } from '../../src/lm/inspect.ts';
import { bytesOf, type Past, type Scratch, stackPasts } from '../../src/lm/past.ts';
import { scoreProgram, trainProgram } from '../../src/lm/programs.ts';
import { pickBatch } from '../../src/lm/rows.ts';
import { batchFeeds, openProgram, trainerOn } from '../../src/lm/run-program.ts';
import { agreesBehind, tryContexts } from '../../src/lm/trial-contexts.ts';
import type { LmBatch, Scorer, TablePlace, Trainer } from '../../src/lm/types.ts';
import type { RenderedRow } from '../../src/tasks/types.ts';
import { readReference, relativeError, vocabularyCandidates } from '../../src/tuning/reference.ts';
import { slopeAlongGradient } from '../support/slope.ts';

const megabyte = 2 ** 20;

/** Whole rows of PyTorch's: contexts of 26, 24 and 26 tokens, the first and third alike, and one too short to be one. */
async function load(name: string) {
  const folder = fileURLToPath(new URL(`../fixtures/past/${name}`, import.meta.url));
  const lm = { ...inspectDirectory(folder), redundant: 'prefixes' as const };
  const candidates = vocabularyCandidates(lm.vocabularySize);
  const options = { threads: 1, device: 'cpu' as const, directory: lm.graphDirectory };
  const reference = await readReference(join(folder, 'context.safetensors'));
  return { lm, candidates, options, reference };
}

type Loaded = Awaited<ReturnType<typeof load>>;

async function openBoth({ lm, candidates, options }: Loaded): Promise<{ trainer: Trainer; scorer: Scorer }> {
  return {
    trainer: await openTrainerBehind(lm, candidates, options),
    scorer: await openScorerBehind(lm, candidates, options),
  };
}

/** A scorer that counts the texts it reads. */
function counting(scorer: Scorer) {
  const texts: string[] = [];
  const read = (ids: readonly number[]): Promise<Past> => {
    texts.push(ids.join());
    return scorer.read!(ids);
  };
  return { read, texts };
}

for (const name of ['gpt2', 'llama']) {
  test(`${name}: loss and gradient behind contexts are PyTorch's of whole rows`, async () => {
    const loaded = await load(name);
    const { reference } = loaded;
    const { trainer, scorer } = await openBoth(loaded);
    const contexts = createContexts(scorer.read!, megabyte);
    assert.deepEqual(contextLengths(reference.batch), [26, 24, 26, 0]);
    for (let time = 0; time < 2; time++) {
      const batch = await contexts.of(reference.batch);
      assert.deepEqual([batch.length, batch.contexts!.map((one) => one?.tokens ?? 0)], [16, [26, 24, 26, 0]]);
      const { loss, gradient } = await trainer.step(batch, reference.labels, reference.table);
      assert.ok(relativeError([loss], [reference.loss]) < 1e-5, `loss ${loss}`);
      const error = relativeError(gradient, reference.gradient);
      assert.ok(error < 1e-5, `gradient ${error}`);
    }
    await trainer.close();
    await scorer.close();
  });

  test(`${name}: loss, gradient and scores behind contexts are those of the steps that read whole rows`, async () => {
    const loaded = await load(name);
    const { lm, candidates, options, reference } = loaded;
    const { batch, labels, table } = reference;
    const { trainer, scorer } = await openBoth(loaded);
    const behind = await createContexts(scorer.read!, 0).of(batch);
    const step = await trainer.step(behind, labels, table);
    const scores = await scorer.score(behind, labels, table);
    for (const redundant of [undefined, 'prefixes'] as const) {
      const plain = { ...lm, redundant };
      const whole = trainerOn(await openProgram(trainProgram(plain, candidates), options));
      const expected = await whole.step(batch, labels, table);
      await whole.close();
      assert.ok(relativeError(step.losses, expected.losses) < 1e-6);
      assert.ok(relativeError(step.gradient, expected.gradient) < 2e-6);
      const runner = await openProgram(scoreProgram(plain, candidates), options);
      const [loss, rank, best] = await runner.run(batchFeeds(batch, table, labels));
      await runner.close();
      assert.ok(relativeError(scores.loss, loss as Float32Array) < 1e-6);
      assert.deepEqual(scores.rank, rank);
      assert.deepEqual([...scores.best], Array.from(best as BigInt64Array, Number));
    }
    await trainer.close();
    await scorer.close();
  });

  test(`${name}: tokens computed apart leave loss and gradient PyTorch's, and those of whole rows`, async () => {
    const { lm, candidates, options, reference } = await load(name);
    const { batch, labels, table } = reference;
    const stepOf = async (place: TablePlace, one: LmBatch, its: BigInt64Array) => {
      const trainer = trainerOn(await openProgram(trainProgram(lm, candidates, place), options));
      const step = await trainer.step(one, its, table);
      await trainer.close();
      return step;
    };
    const apart = await stepOf('apart', batch, labels);
    assert.ok(relativeError([apart.loss], [reference.loss]) < 1e-5, `loss ${apart.loss}`);
    const error = relativeError(apart.gradient, reference.gradient);
    assert.ok(error < 1e-5, `gradient ${error}`);
    // Rows that begin alike, one of them without pseudo tokens, and none with a token before them.
    const alike = batchOf([row(words(9, 5), 4), row([...words(6, 5), 30, 31], 6), row(words(9, 5), -1)]);
    const early = batchOf([row(words(5, 5), 0), row(words(4, 20), 0)]);
    for (const [one, rows] of [
      [alike, 3],
      [early, 2],
    ] as const) {
      const its = labels.slice(0, rows);
      const [found, expected] = [await stepOf('apart', one, its), await stepOf('embeddings', one, its)];
      assert.ok(relativeError(found.losses, expected.losses) < 1e-6);
      assert.ok(relativeError(found.gradient, expected.gradient) < 2e-6);
    }
  });

  test(`${name}: the gradient behind contexts is the slope of the loss`, async () => {
    const loaded = await load(name);
    const { batch: whole, labels, table } = loaded.reference;
    const { trainer, scorer } = await openBoth(loaded);
    const batch = await createContexts(scorer.read!, megabyte).of(whole);
    const { slope, size } = await slopeAlongGradient(trainer, batch, labels, table);
    assert.ok(Math.abs(slope - size) / size < 1e-3, `slope ${slope}, gradient ${size}`);
    await trainer.close();
    await scorer.close();
  });

  test(`${name}: what was kept and what is read again give the same bits, in whatever batch`, async () => {
    const loaded = await load(name);
    const { reference } = loaded;
    const { trainer, scorer } = await openBoth(loaded);
    const { read, texts } = counting(scorer);
    const [keeping, forgetting] = [createContexts(read, megabyte), createContexts(read, 0)];
    const stepOf = async (batch: LmBatch) => trainer.step(batch, reference.labels, reference.table);
    const first = await stepOf(await keeping.of(reference.batch));
    assert.equal(texts.length, 2, 'rows that begin alike are read once');
    const second = await stepOf(await keeping.of(reference.batch));
    assert.equal(texts.length, 2, 'what is kept is not read again');
    // Other rows between the steps: memory of feeds is used again.
    const one = pickBatch(reference.batch, [1]);
    await trainer.step(await forgetting.of(one), reference.labels.slice(1, 2), reference.table);
    const third = await stepOf(await forgetting.of(reference.batch));
    assert.equal(texts.length, 5);
    for (const other of [second, third]) assert.deepEqual(other, first);
    await trainer.close();
    await scorer.close();
  });

  test(`${name}: what is kept stays within the limit, and what came first stays`, async () => {
    const loaded = await load(name);
    const { scorer, trainer } = await openBoth(loaded);
    const token = bytesOf(await scorer.read!([5]));
    const { read, texts } = counting(scorer);
    const contexts = createContexts(read, 30 * token);
    for (let time = 0; time < 2; time++) await contexts.of(loaded.reference.batch);
    assert.deepEqual(contexts.size(), { entries: 1, bytes: 26 * token });
    assert.equal(texts.length, 3, 'the second row is read each time');
    await trainer.close();
    await scorer.close();
  });

  test(`${name}: the import finds that rows train behind contexts, and where they do not`, async () => {
    const loaded = await load(name);
    const { lm } = loaded;
    assert.equal(await tryContexts(lm), true);
    const { trainer, scorer } = await openBoth(loaded);
    const { width } = lm.embedding;
    const stepsOn = (change: (batch: LmBatch) => LmBatch): Trainer => ({
      ...trainer,
      step: (batch, ...rest) => trainer.step(change(batch), ...rest),
    });
    assert.equal(await agreesBehind(trainer, scorer, width), true);
    const forgetful = stepsOn(({ contexts: _, ...batch }) => batch);
    assert.equal(await agreesBehind(forgetful, scorer, width), false);
    // Neither are other positions, nor other tokens.
    const uncounted = stepsOn((batch) => ({
      ...batch,
      ...(batch.contexts && { contexts: batch.contexts.map((past) => past && { ...past, tokens: past.tokens - 1 }) }),
    }));
    assert.equal(await agreesBehind(uncounted, scorer, width), false);
    const deaf: Scorer = { ...scorer, read: async ([first = 0]) => scorer.read!([first]) };
    assert.equal(await agreesBehind(trainer, deaf, width), false);
    await trainer.close();
    await scorer.close();
  });
}

test('memory that feeds are stacked in is used again, and holds nothing of what was there', () => {
  const shapes = [{ heads: 2, size: 1 }];
  const past = (tokens: number, first: number): Past => ({
    tokens,
    values: [Float32Array.from({ length: 2 * tokens }, (_, i) => first + i)],
  });
  const scratch: Scratch = [];
  const [big] = stackPasts(shapes, [past(3, 1), past(3, 11)], scratch);
  assert.deepEqual([...(big!.data as Float32Array)], [1, 2, 3, 4, 5, 6, 11, 12, 13, 14, 15, 16]);
  const [small] = stackPasts(shapes, [past(2, 21), null, past(1, 31)], scratch);
  assert.deepEqual(small!.dims, [3, 2, 2, 1]);
  assert.deepEqual([...(small!.data as Float32Array)], [21, 22, 23, 24, 0, 0, 0, 0, 0, 31, 0, 32]);
  assert.equal(small!.data.buffer, big!.data.buffer);
});

const words = (count: number, from: number) => Array.from({ length: count }, (_, i) => from + i);
function row(ids: number[], pseudo: number): RenderedRow {
  const slots = ids.map((_, i) => (i === pseudo ? 0 : -1));
  return { ids, slots, target: ids.length - 1, label: -1, cut: 0 };
}
const batchOf = (rows: RenderedRow[]): LmBatch => padBatch(rows, 0).batch;

test('a row without pseudo tokens has no context, nor one whose target stands before them', () => {
  const late = { ...row(words(40, 0), 30), target: 29 };
  assert.deepEqual(contextLengths(batchOf([row(words(40, 0), -1), late, row(words(40, 0), 30)])), [0, 0, 30]);
});

test('the work of a step: whole rows twice, contexts once, what is shared once for the batch', () => {
  const [one, other] = [row([...words(100, 0), 1, 2], 100), row([...words(100, 200), 1, 2], 100)];
  assert.deepEqual(stepWork(batchOf([one, other])), {
    whole: 2 * 204,
    apart: 220 + 2 * 4,
    rest: 2 * 4,
    reading: 2 * 120,
    contexts: 200,
  });
  assert.deepEqual(stepWork(batchOf([one, one])), {
    whole: 2 * 102,
    apart: 120 + 2 * 2,
    rest: 2 * 2,
    reading: 120,
    contexts: 100,
  });
  // Long beginnings that all rows share are computed once for a batch of whole rows, once for each context.
  const shared = [0, 1, 2, 3].map((i) => row([...words(100, 0), ...words(4, 300 + 10 * i), 1, 2], 104));
  const apart = 120 + 4 * 4 + 2 * 8;
  const work = { whole: 2 * (100 + 4 * 6), apart, rest: 2 * 8, reading: 4 * 124, contexts: 4 * 104 };
  assert.deepEqual(stepWork(batchOf(shared)), work);
});
