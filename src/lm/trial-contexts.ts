/** Contexts tried out on an LM that nobody trusts yet: that rows behind kept keys and values train as whole rows do. */
import { PtunedError } from '../errors.ts';
import { openScorerBehind, openTrainerBehind } from './behind.ts';
import type { Inspected } from './inspect.ts';
import { cutBatch, lengthsOf } from './rows.ts';
import { differ, optionsAsWritten, tolerance, twoWords } from './trial.ts';
import type { LmBatch, PromptTable, Scorer, StepResult, Trainer } from './types.ts';

const labels = BigInt64Array.of(0n, 1n, 0n, 1n);
/** Rows as [context, rest]; the first token of each rest is a pseudo token. Two have the same context, one has none. */
const texts: readonly (readonly [context: number[], rest: number[]])[] = [
  [[5, 6, 7], [1, 8, 9]],
  [[5, 10], [1, 8, 11, 12]],
  [[5, 6, 7], [1, 8, 13]],
  [[], [1, 14]],
]; // biome-ignore format: one row a line

/**
 * Whether loss, gradient and scores of rows behind contexts of different lengths are those of whole rows. An LM may take
 * cached tokens otherwise than its own: count positions from the cache's length, heed no mask.
 * @throws PtunedError other than `internal`
 */
export async function tryContexts(lm: Inspected): Promise<boolean> {
  const options = optionsAsWritten(lm);
  const opened: { close(): Promise<void> }[] = [];
  const keep = <T extends { close(): Promise<void> }>(part: T): T => {
    opened.push(part);
    return part;
  };
  try {
    const trainer = keep(await openTrainerBehind(lm, twoWords, options));
    const scorer = keep(await openScorerBehind(lm, twoWords, options));
    return await agreesBehind(trainer, scorer, lm.embedding.width);
  } catch (error) {
    // What the runtime refuses here is no reason to refuse an LM that trains.
    if (error instanceof PtunedError && error.code === 'internal') return false;
    throw error;
  } finally {
    for (const part of opened) await part.close();
  }
}

/** {@link tryContexts} of an open trainer and scorer; `width` of a prompt row. */
export async function agreesBehind(trainer: Trainer, scorer: Scorer, width: number): Promise<boolean> {
  const table: PromptTable = {
    rows: 1,
    width,
    values: Float32Array.from({ length: width }, (_, i) => Math.sin(i) / 10),
  };
  const whole = wholeRows();
  const spans = lengthsOf(whole).map((to, row) => ({ row, from: texts[row]![0].length, to }));
  const contexts = [];
  for (const [context] of texts) contexts.push(context.length === 0 ? null : await scorer.read!(context));
  // Rows with the same tokens before them share what they begin with.
  contexts[2] = contexts[0]!;
  const behind: LmBatch = { ...cutBatch(whole, spans), contexts };
  const steps: StepResult[] = [];
  for (const batch of [whole, behind]) steps.push(await trainer.step(batch, labels, table));
  const scores = await scorer.score(behind, labels, table);
  const [one, other] = steps as [StepResult, StepResult];
  const differences = [
    differ(other.losses, one.losses),
    differ(other.gradient, one.gradient),
    differ(scores.loss, one.losses),
  ];
  return differences.every((difference) => difference <= tolerance);
}

function wholeRows(): LmBatch {
  const rows = texts.map(([context, rest]) => [...context, ...rest]);
  const length = Math.max(...rows.map((ids) => ids.length));
  const place = (value: (id: number | undefined, i: number, row: number) => number) =>
    BigInt64Array.from(rows.flatMap((ids, row) => Array.from({ length }, (_, i) => BigInt(value(ids[i], i, row)))));
  return {
    ...{ rows: rows.length, length },
    ids: place((id) => id ?? 0),
    mask: place((id) => (id === undefined ? 0 : 1)),
    slots: place((_, i, row) => (i === texts[row]![0].length ? 0 : -1)),
    targets: BigInt64Array.from(rows, (ids) => BigInt(ids.length - 1)),
  };
}
