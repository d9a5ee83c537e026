import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { PromptTable } from '../../src/lm/types.ts';
import type { RenderedRow } from '../../src/tasks/types.ts';
import { arrangeEvaluation, evaluate } from '../../src/tuning/evaluate.ts';
import { fakeData, fakeLm, fakeRows, virtualTokens, width } from '../support/fake-tuning.ts';

const rowOf = (length: number, label: number): RenderedRow => ({
  ids: Array(length).fill(1),
  slots: Array(length).fill(-1),
  target: length - 1,
  label,
  cut: 0,
});

test('batches hold rows of like length, within the limits of rows and tokens', () => {
  const rows = Array.from({ length: 1000 }, (_, i) => rowOf(1 + ((i * 37) % 90), i % 5));
  const { labels, ...set } = arrangeEvaluation(rows, 0);
  const batches = [...set.batches];
  let last = 0;
  let seen = 0;
  for (const { batch } of batches) {
    assert.ok(batch.rows <= 256 && batch.rows * batch.length <= 4096);
    assert.ok(batch.length >= last);
    last = batch.length;
    seen += batch.rows;
  }
  assert.equal(seen, 1000);
  assert.ok(batches.length < 40, `${batches.length} batches`);
  assert.deepEqual([...labels].sort(), rows.map((row) => row.label).sort());
});

test('a row longer than the token limit still has its batch', () => {
  assert.deepEqual(
    Array.from(arrangeEvaluation([rowOf(5000, 1), rowOf(5, 0)], 0).batches, ({ batch }) => [batch.rows, batch.length]),
    [
      [1, 5],
      [1, 5000],
    ],
  );
});

test('scores do not depend on how rows were batched', async () => {
  const data = fakeData();
  const scorer = await fakeLm().scorer(data.candidates);
  const values = Float32Array.from({ length: virtualTokens * width }, (_, i) => Math.sin(i));
  const table: PromptTable = { rows: virtualTokens, width, values };
  const rows = fakeRows(60, 300);
  let batches = 0;
  const together = await evaluate(scorer, arrangeEvaluation(rows, 0), table, data.measure, () => void batches++);
  let right = 0;
  let loss = 0;
  for (const row of rows) {
    const alone = await evaluate(scorer, arrangeEvaluation([row], 0), table, data.measure, () => {});
    right += alone.p_at_1!;
    loss += alone.loss!;
  }
  assert.equal(batches, 1);
  assert.ok(right > 0 && right < 60);
  assert.equal(together.p_at_1, right / 60);
  assert.ok(Math.abs(together.loss! - loss / 60) < 1e-6);
});

test('breaking off between batches', async () => {
  const data = fakeData();
  const scorer = await fakeLm().scorer(data.candidates);
  const table: PromptTable = { rows: virtualTokens, width, values: new Float32Array(virtualTokens * width) };
  const stop = () => {
    throw new Error('stop');
  };
  await assert.rejects(evaluate(scorer, arrangeEvaluation(fakeRows(5, 0), 0), table, data.measure, stop), /stop/);
});
