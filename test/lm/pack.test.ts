/** Tokens that are computed once or not at all: nothing that anyone reads changes. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import fc from 'fast-check';
import { feeds } from '../../src/lm/feeds.ts';
import { type Inspected, inspectDirectory } from '../../src/lm/inspect.ts';
import { findPlaces, type PackedBatch, packingFeeds, setApart } from '../../src/lm/packing-feeds.ts';
import { predictProgram, scoreProgram, trainProgram } from '../../src/lm/programs.ts';
import { batchFeeds, openProgram, trainerOn } from '../../src/lm/run-program.ts';
import { tryTraining } from '../../src/lm/trial.ts';
import type { LmBatch, PromptTable } from '../../src/lm/types.ts';
import { relativeError, vocabularyCandidates } from '../../src/tuning/reference.ts';
import { slopeAlongGradient } from '../support/slope.ts';

function load(name: string): Inspected {
  return inspectDirectory(fileURLToPath(new URL(`../fixtures/${name}`, import.meta.url)));
}

/** Rows of lengths 7, 5 and 7; the first two share four tokens, the first and the last two, pseudo tokens among them. */
function sharingBatch(): LmBatch {
  const [rows, length] = [3, 7];
  const texts = [
    [5, 5, 20, 21, 30, 31, 32],
    [5, 5, 20, 21, 40],
    [5, 5, 22, 21, 30, 31, 32],
  ];
  const places = texts.flatMap((text) => Array.from({ length }, (_, i) => text[i]));
  return {
    rows,
    length,
    ids: BigInt64Array.from(places, (id) => BigInt(id ?? 0)),
    mask: BigInt64Array.from(places, (id) => (id === undefined ? 0n : 1n)),
    slots: BigInt64Array.from(places, (_, i) => (i % length < 2 ? BigInt(i % length) : -1n)),
    targets: BigInt64Array.from(texts, (text) => BigInt(text.length - 1)),
  };
}

function tableFor(lm: Inspected): PromptTable {
  const { width } = lm.embedding;
  return { rows: 2, width, values: Float32Array.from({ length: 2 * width }, (_, i) => 0.3 * Math.sin(i)) };
}

const expected = { gpt2: 'prefixes', llama: 'prefixes', bert: 'padding' } as const;

for (const [name, redundant] of Object.entries(expected)) {
  test(`${name}: what may be left out is measured: ${redundant}`, async () => {
    assert.equal(await tryTraining(load(name)), redundant);
  });

  test(`${name}: leaving it out changes no loss, gradient, score or logits`, async () => {
    const lm = load(name);
    const options = { threads: 1, device: 'cpu' as const, directory: lm.graphDirectory };
    const candidates = vocabularyCandidates(lm.vocabularySize);
    const all = batchFeeds(sharingBatch(), tableFor(lm), BigInt64Array.of(3n, 4n, 5n));
    for (const program of [trainProgram, scoreProgram, predictProgram]) {
      const results = [];
      for (const given of [lm, { ...lm, redundant }]) {
        const runner = await openProgram(program(given, candidates), options);
        results.push(await runner.run(all));
        await runner.close();
      }
      const [whole, packed] = results as unknown as ArrayLike<number>[][];
      for (const [i, values] of whole!.entries()) {
        assert.ok(
          relativeError(Array.from(packed![i]!, Number), Array.from(values, Number)) < 2e-6,
          `${program.name} ${i}`,
        );
      }
    }
  });
}

test('gpt2: the gradient of a packed step is the slope of its loss', async () => {
  const lm = { ...load('gpt2'), redundant: 'prefixes' as const };
  const options = { threads: 1, device: 'cpu' as const, directory: lm.graphDirectory };
  const trainer = trainerOn(await openProgram(trainProgram(lm, vocabularyCandidates(lm.vocabularySize)), options));
  const [batch, table, labels] = [sharingBatch(), tableFor(lm), BigInt64Array.of(3n, 4n, 5n)];
  const { slope, size } = await slopeAlongGradient(trainer, batch, labels, table);
  await trainer.close();
  assert.ok(Math.abs(slope - size) / size < 1e-3, `slope ${slope}, gradient ${size}`);
});

test('a graph that is not packed reads no feed of packing', () => {
  const inputs = predictProgram(load('gpt2')).model.graph.inputs.map((input) => input.name);
  assert.ok(!inputs.includes(feeds.packed));
});

/** Few ids, so that prefixes are shared often; rows are right-padded. */
const batches = fc
  .record({ rows: fc.integer({ min: 1, max: 5 }), length: fc.integer({ min: 1, max: 6 }) })
  .chain(({ rows, length }) => {
    const size = { minLength: rows * length, maxLength: rows * length };
    return fc.record({
      rows: fc.constant(rows),
      length: fc.constant(length),
      ids: fc.array(fc.bigInt(0n, 1n), size).map((ids) => BigInt64Array.from(ids)),
      slots: fc.array(fc.bigInt(-1n, 0n), size).map((slots) => BigInt64Array.from(slots)),
      mask: fc
        .array(fc.integer({ min: 1, max: length }), { minLength: rows, maxLength: rows })
        .map((lengths) =>
          BigInt64Array.from({ length: rows * length }, (_, i) =>
            i % length < lengths[Math.floor(i / length)]! ? 1n : 0n,
          ),
        ),
    });
  });

/** Ids and slots of a row up to a place. */
function prefixAt({ ids, slots, length }: PackedBatch, place: number): string {
  const start = place - (place % length);
  return `${ids.slice(start, place + 1)}|${slots.slice(start, place + 1)}`;
}

test('a token is computed once for every prefix, and stands wherever that prefix does', () => {
  fc.assert(
    fc.property(batches, (batch) => {
      const { packed, spread, copies } = findPlaces(batch, true);
      const tokens = Array.from(batch.mask.keys()).filter((place) => batch.mask[place] === 1n);
      const prefixes = new Set(tokens.map((place) => prefixAt(batch, place)));
      assert.equal(packed.length, prefixes.size);
      assert.equal(packed.length + copies.length, tokens.length);
      for (const place of tokens) assert.equal(prefixAt(batch, packed[spread[place]!]!), prefixAt(batch, place));
    }),
  );
});

test('tokens set apart stand behind no pseudo token and at no target, and each stands wherever its prefix does', () => {
  fc.assert(
    fc.property(batches, (batch) => {
      const { rows, length, mask, slots } = batch;
      const lengths = Array.from({ length: rows }, (_, row) =>
        mask.subarray(row * length, (row + 1) * length).reduce((sum, one) => sum + Number(one), 0),
      );
      const targets = BigInt64Array.from(lengths, (count) => BigInt(count - 1));
      const { packed, spread, copies, early, spreadEarly } = setApart(batch, targets, findPlaces(batch, true));
      const tokens = Array.from(mask.keys()).filter((place) => mask[place] === 1n);
      const isFree = (place: number) =>
        place % length < lengths[Math.floor(place / length)]! - 1 &&
        slots.subarray(place - (place % length), place + 1).every((slot) => slot < 0n);
      for (const place of tokens) {
        const its = prefixAt(batch, place);
        const isEarly = tokens.every((other) => prefixAt(batch, other) !== its || isFree(other));
        assert.equal(spreadEarly[place]! >= 0, isEarly);
        const source = isEarly ? early[spreadEarly[place]!]! : packed[spread[place]!]!;
        assert.equal(prefixAt(batch, source), its);
        assert.equal(copies.includes(place), !isEarly && source !== place);
      }
      assert.ok(packed.length > 0 && early.length > 0);
    }),
  );
});

test('without sharing every token is computed at its own place', () => {
  fc.assert(
    fc.property(batches, (batch) => {
      const { packed, copies } = findPlaces(batch, false);
      assert.deepEqual(
        packed,
        Array.from(batch.mask.keys()).filter((place) => batch.mask[place] === 1n),
      );
      assert.deepEqual(copies, []);
    }),
  );
});

test('targets and the way back of gradients follow the tokens', () => {
  const batch = sharingBatch();
  const given = packingFeeds(batch, batch.targets, true);
  const data = (name: string) => Array.from(given[name]!.data, Number);
  const [packed, back] = [data(feeds.packed), data(feeds.spreadGradient)];
  assert.equal(packed.length, 7 + 1 + 5);
  for (const [place, token] of back.entries()) assert.equal(packed[token] ?? place, place);
  assert.deepEqual(data(feeds.packedTargets), [6, 7, 12]);
  assert.deepEqual(data(feeds.copies), [7, 8, 9, 10, 14, 15]);
  assert.deepEqual(data(feeds.copyRows), [0, 1, 2, 3, 0, 1]);
});
