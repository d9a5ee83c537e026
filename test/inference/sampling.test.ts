import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { PtunedError } from '../../src/errors.ts';
import { candidateScores, highest, logSoftmax } from '../../src/inference/probabilities.ts';
import { createSampler, nucleus } from '../../src/inference/sampling.ts';

const scoresOf = (values: number[]) => Float32Array.from(values);

test('highest agrees with sorting, ties by index', () => {
  const values = fc.array(fc.integer({ min: -5, max: 5 }), { minLength: 1, maxLength: 60 });
  fc.assert(
    fc.property(values, fc.integer({ min: 0, max: 70 }), (list, count) => {
      const sorted = list.map((_, i) => i).sort((a, b) => list[b]! - list[a]! || a - b);
      assert.deepEqual(highest(scoresOf(list), count), sorted.slice(0, count));
    }),
  );
});

test('logSoftmax is stable, sums to one, and refuses what is no number', () => {
  const probabilities = logSoftmax(scoresOf([1000, 1001, 999])).map(Math.exp);
  assert.ok(Math.abs(probabilities.reduce((sum, p) => sum + p, 0) - 1) < 1e-6);
  assert.ok(Math.abs(probabilities[1]! - 1 / (1 + Math.exp(-1) + Math.exp(-2))) < 1e-6);
  assert.deepEqual([...logSoftmax(scoresOf([0, Number.NEGATIVE_INFINITY]))], [0, Number.NEGATIVE_INFINITY]);
  for (const bad of [[Number.NaN, 1], [Number.POSITIVE_INFINITY, 1], [Number.NEGATIVE_INFINITY]]) {
    assert.throws(() => logSoftmax(scoresOf(bad)), PtunedError);
  }
});

test('candidates score the weighted sum of their logits', () => {
  const candidates = {
    count: 2,
    width: 2,
    ids: Int32Array.of(3, 1, 0, 0),
    weights: Float32Array.of(0.5, 0.5, 1, 0),
    names: ['two words', 'one'],
  };
  assert.deepEqual([...candidateScores(scoresOf([5, 2, 9, 4]), candidates)], [3, 5]);
});

test('the nucleus is the smallest set of likeliest tokens that reaches the sum', () => {
  const probabilities = fc.array(fc.integer({ min: 0, max: 100 }), { minLength: 1, maxLength: 50 });
  fc.assert(
    fc.property(probabilities, fc.double({ min: 0.01, max: 1, noNaN: true }), (weights, topP) => {
      const all = weights.reduce((sum, weight) => sum + weight, 0);
      fc.pre(all > 0);
      const shares = Float32Array.from(weights, (weight) => weight / all);
      const sorted = [...shares.keys()].sort((a, b) => shares[b]! - shares[a]! || a - b);
      const expected: number[] = [];
      const wanted = topP === 1 ? 2 : topP;
      for (let sum = 0; expected.length === 0 || (sum < wanted && shares[sorted[expected.length]!]! > 0); ) {
        sum += shares[sorted[expected.length]!]!;
        expected.push(sorted[expected.length]!);
        if (expected.length === sorted.length) break;
      }
      assert.deepEqual(
        nucleus(shares, topP).indices,
        expected.sort((a, b) => a - b),
      );
    }),
    { numRuns: 500 },
  );
});

test('temperature 0 takes the likeliest; a seed repeats its choices', () => {
  const scores = scoresOf([0.1, 2, 1.9, -3]);
  assert.equal(createSampler({ temperature: 0, topP: 1, seed: 1 })(scores), 1);
  const draw = (seed: number) => {
    const sample = createSampler({ temperature: 1, topP: 1, seed });
    return Array.from({ length: 30 }, () => sample(scores)).join('');
  };
  assert.equal(draw(7), draw(7));
  assert.notEqual(draw(7), draw(8));
  assert.throws(() => createSampler({ temperature: 0, topP: 1, seed: 1 })(scoresOf([Number.NaN, Number.NaN])));
});

test('rounding does not change what a seed draws', () => {
  const scores = Float32Array.from({ length: 5000 }, (_, i) => 0.001 * ((i * 7919) % 13));
  const rounded = scores.map((score, i) => score + 1e-7 * Math.sin(i));
  for (let seed = 0; seed < 50; seed++) {
    const [one, other] = [scores, rounded].map((of) => createSampler({ temperature: 1, topP: 1, seed })(of));
    assert.equal(one, other);
  }
});

test('draws follow the probabilities, sharpened by temperature and cut by the nucleus', () => {
  const scores = scoresOf([0, 1, 2]);
  const frequencies = (temperature: number, topP: number) => {
    const sample = createSampler({ temperature, topP, seed: 3 });
    const counts = [0, 0, 0];
    for (let i = 0; i < 20_000; i++) counts[sample(scores)]!++;
    return counts.map((count) => count / 20_000);
  };
  for (const temperature of [0.5, 1, 2]) {
    const expected = logSoftmax(scores, temperature).map(Math.exp);
    // Five standard deviations of a frequency of 20,000 draws are below 0.018.
    frequencies(temperature, 1).forEach((found, i) => void assert.ok(Math.abs(found - expected[i]!) < 0.018));
  }
  assert.deepEqual(frequencies(1, 0.6), [0, 0, 1]);
  const [least, ...others] = frequencies(1, 0.9);
  assert.equal(least, 0);
  assert.ok(Math.abs(others[0]! - 1 / (1 + Math.E)) < 0.018);
});
