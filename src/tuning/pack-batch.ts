/** Steps of several jobs as one batch, and its result as theirs. */
import type { LmBatch, PromptTable, StepResult } from '../lm/types.ts';

/** What a job asks its LM for: a batch, the right candidates, its own prompt table and, rarely, weights of the rows. */
export interface StepRequest {
  batch: LmBatch;
  labels: BigInt64Array;
  table: PromptTable;
  weights?: Float32Array;
}

/**
 * All rows below each other, padded to the longest, and all tables below each other; the slots of each job point to its
 * own rows of the table. A row weighs what it weighs in its own job, so that no job's gradient depends on the others.
 */
export function joinRequests(requests: readonly StepRequest[], pad: number): Required<StepRequest> {
  const rows = sum(requests.map(({ batch }) => batch.rows));
  const length = Math.max(...requests.map(({ batch }) => batch.length));
  const width = requests[0]!.table.width;
  const batch: LmBatch = {
    rows,
    length,
    ids: new BigInt64Array(rows * length).fill(BigInt(pad)),
    mask: new BigInt64Array(rows * length),
    slots: new BigInt64Array(rows * length).fill(-1n),
    targets: new BigInt64Array(rows),
  };
  const labels = new BigInt64Array(rows);
  const weights = new Float32Array(rows);
  const table = { rows: sum(requests.map((one) => one.table.rows)), width, values: new Float32Array(0) };
  table.values = new Float32Array(table.rows * width);
  let row = 0;
  let slot = 0;
  for (const one of requests) {
    copyRows(one.batch, batch, row, BigInt(slot));
    labels.set(one.labels, row);
    weights.set(one.weights ?? new Float32Array(one.batch.rows).fill(1 / one.batch.rows), row);
    table.values.set(one.table.values, slot * width);
    row += one.batch.rows;
    slot += one.table.rows;
  }
  return { batch, labels, table, weights };
}

function copyRows(from: LmBatch, to: LmBatch, first: number, firstSlot: bigint): void {
  for (let r = 0; r < from.rows; r++) {
    const [start, end] = [r * from.length, (r + 1) * from.length];
    const at = (first + r) * to.length;
    to.ids.set(from.ids.subarray(start, end), at);
    to.mask.set(from.mask.subarray(start, end), at);
    for (let i = 0; i < from.length; i++) {
      const slot = from.slots[start + i]!;
      if (slot >= 0n) to.slots[at + i] = slot + firstSlot;
    }
  }
  to.targets.set(from.targets, first);
}

/** The rows of the result that belong to each request; `loss` is the mean over its own. */
export function splitResult(result: StepResult, requests: readonly StepRequest[]): StepResult[] {
  let row = 0;
  let slot = 0;
  return requests.map(({ batch, table }) => {
    const losses = result.losses.slice(row, row + batch.rows);
    const gradient = result.gradient.slice(slot * table.width, (slot + table.rows) * table.width);
    row += batch.rows;
    slot += table.rows;
    return { loss: sum(losses) / batch.rows, losses, gradient, jobs: requests.length };
  });
}

function sum(values: ArrayLike<number>): number {
  let total = 0;
  for (let i = 0; i < values.length; i++) total += values[i]!;
  return total;
}
