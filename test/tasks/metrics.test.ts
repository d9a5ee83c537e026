import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { compareMetric, metrics, type Scores } from '../../src/tasks/metrics.ts';
import { defaultTask, measure, metricOf } from '../../src/tasks/registry.ts';

const scores = (rank: number[], best: number[], labels: number[]): Scores => ({
  rank: Int32Array.from(rank),
  best: Int32Array.from(best),
  labels: Int32Array.from(labels),
});

test('precision and reciprocal rank, by hand', () => {
  const four = scores([0, 1, 9, 10], [5, 6, 7, 8], [5, 0, 0, 0]);
  assert.equal(metrics.p_at_1(four), 0.25);
  assert.equal(metrics.p_at_10(four), 0.75);
  assert.ok(Math.abs(metrics.mrr(four) - (1 + 1 / 2 + 1 / 10 + 1 / 11) / 4) < 1e-12);
});

test('scores that are no numbers count as wrong', () => {
  const two = scores([-1, 0], [0, 1], [0, 1]);
  assert.deepEqual([metrics.p_at_1(two), metrics.p_at_10(two), metrics.mrr(two)], [0.5, 0.5, 0.5]);
});

test('macro F1 is the mean over labels that occur', () => {
  // Label 0: tp 2, fp 1, fn 0: 4/5. Label 1: tp 1, fp 0, fn 1: 2/3. Label 2 occurs nowhere.
  const four = scores([0, 0, 0, 1], [0, 0, 1, 0], [0, 0, 1, 1]);
  assert.ok(Math.abs(metrics.macro_f1(four) - (4 / 5 + 2 / 3) / 2) < 1e-12);
  assert.equal(metrics.accuracy(four), 0.75);
  // A label that was only guessed counts with 0.
  assert.equal(metrics.macro_f1(scores([0, 1], [0, 2], [0, 0])), (2 / 3 + 0) / 2);
});

test('a tie and a score that is no number are wrong for accuracy and macro F1 alike', () => {
  // Row 0 ties although `best` names the label; row 1 has no score at all; row 2 is right.
  const three = scores([1, -1, 0], [0, 1, 1], [0, 1, 1]);
  assert.equal(metrics.accuracy(three), 1 / 3);
  // Label 0: tp 0, fn 1: 0. Label 1: tp 1, fn 1: 2/3. Neither adds a guess of another label.
  assert.equal(metrics.macro_f1(three), (0 + 2 / 3) / 2);
});

/** As scikit-learn defines it: per label in either list, the harmonic mean of precision and recall, 0 where both are 0. */
function macroF1(truth: readonly number[], guess: readonly number[]): number {
  const labels = [...new Set([...truth, ...guess])];
  const scored = labels.map((label) => {
    const hits = truth.filter((one, i) => one === label && guess[i] === label).length;
    const precision = hits / Math.max(1, guess.filter((one) => one === label).length);
    const recall = hits / Math.max(1, truth.filter((one) => one === label).length);
    return hits === 0 ? 0 : (2 * precision * recall) / (precision + recall);
  });
  return scored.reduce((sum, one) => sum + one, 0) / labels.length;
}

test('macro F1 is that of scikit-learn', () => {
  // sklearn.metrics.f1_score([0, 1, 2, 0, 1, 2], [0, 2, 1, 0, 0, 1], average='macro'), an example of its documentation: 0.26…
  const documented = scores([0, 1, 1, 0, 1, 1], [0, 2, 1, 0, 0, 1], [0, 1, 2, 0, 1, 2]);
  assert.ok(Math.abs(metrics.macro_f1(documented) - 0.8 / 3) < 1e-12);
  const row = fc.record({ label: fc.nat(4), best: fc.nat(4) });
  fc.assert(
    fc.property(fc.array(row, { minLength: 1, maxLength: 40 }), (rows) => {
      const truth = rows.map(({ label }) => label);
      const guess = rows.map(({ best }) => best);
      const rank = rows.map(({ label, best }) => (label === best ? 0 : 1));
      assert.ok(Math.abs(metrics.macro_f1(scores(rank, guess, truth)) - macroF1(truth, guess)) < 1e-9);
    }),
  );
});

test('a task has its metrics and one that decides', () => {
  const one = scores([0], [0], [0]);
  assert.deepEqual(Object.keys(measure(defaultTask, one)), ['p_at_1', 'p_at_10', 'mrr']);
  assert.equal(metricOf(defaultTask), 'p_at_1');
  assert.equal(metricOf({ type: 'cloze', metric: 'mrr' }), 'mrr');
  const classification = { type: 'classification', labels: { a: 'x', b: 'y' } } as const;
  assert.deepEqual(measure(classification, one), { accuracy: 1, macro_f1: 1 });
  assert.equal(metricOf(classification), 'accuracy');
});

test('metrics are compared with numbers above what is none', () => {
  const sorted = [0.5, Number.NaN, 0.9, 0].sort(compareMetric);
  assert.deepEqual(sorted, [Number.NaN, 0, 0.5, 0.9]);
  assert.equal(compareMetric(Number.NaN, Number.NaN), 0);
});
