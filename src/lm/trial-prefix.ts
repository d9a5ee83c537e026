/** Prefix tuning tried out on an LM that nobody trusts yet: that a step runs behind keys and values, and that they count. */
import { PtunedError } from '../errors.ts';
import { refusePrefix } from '../models/past.ts';
import { rangesOverBatch } from '../ops/quantize.ts';
import { countsPositions, keysAndValues, openCached } from './cache.ts';
import type { Inspected } from './inspect.ts';
import { placing } from './place.ts';
import { trainProgram } from './programs.ts';
import { openProgram, trainerOn } from './run-program.ts';
import { optionsAsWritten, twoWords } from './trial.ts';
import type { LmBatch, PromptTable, StepResult } from './types.ts';

/** Largest difference of a loss from that of the whole text, relative to it: rounding is far below. */
const tolerance = 1e-3;
/** A text that both rows begin with, and what each goes on with. */
const shared = [5, 6, 7];
const rest = [
  [8, 9, 10, 11],
  [12, 13, 14],
];

/**
 * Why keys and values cannot be trained before the first token of this LM, or null where they can: behind what the LM itself
 * computes for the beginning of a text, the loss is that of the whole text, and it has a gradient.
 */
export async function tryPrefix(lm: Inspected, id: string): Promise<string | null> {
  const { config, inputs, model } = lm;
  const counts = countsPositions(model.graph) ? { countsPositions: true as const } : {};
  const refusal = refusePrefix({ id, kind: config.kind, inputs: [...inputs], ...counts });
  if (refusal !== null) return refusal;
  try {
    return await disagreement(lm, id);
  } catch (error) {
    if (error instanceof PtunedError) return `a trial step of "${id}" behind a prefix does not run: ${error.message}`;
    throw error;
  }
}

async function disagreement(lm: Inspected, id: string): Promise<string | null> {
  const { losses, gradient } = await step(lm, rest, await prefixOf(lm));
  if (![...losses, ...gradient].every(Number.isFinite) || gradient.every((value) => value === 0))
    return `a trial step of "${id}" behind a prefix gives no finite gradient`;
  // What is rounded in the range of the whole batch is another number in another batch.
  if (lm.model.graph.nodes.some(rangesOverBatch)) return null;
  const whole = await step(
    lm,
    rest.map((row) => [...shared, ...row]),
    null,
  );
  const error = Math.max(...losses.map((loss, i) => Math.abs(loss - whole.losses[i]!) / Math.abs(whole.losses[i]!)));
  if (error <= tolerance) return null;
  return `behind the keys and values of a text "${id}" does not go on as behind the text itself: the loss differs by ${(100 * error).toPrecision(2)} %; its export counts positions or masks in another way`;
}

async function prefixOf(lm: Inspected): Promise<PromptTable> {
  const session = await openCached(lm, optionsAsWritten(lm));
  try {
    const values = await keysAndValues(session, shared, lm.embedding.width);
    return { rows: shared.length, width: values.length / shared.length, values };
  } finally {
    await session.close();
  }
}

/** Loss and gradient of the table: a prefix, or pseudo tokens that no row has. */
async function step(lm: Inspected, texts: number[][], prefix: PromptTable | null): Promise<StepResult> {
  const place = prefix === null ? 'embeddings' : 'past';
  const program = placing(lm, () => trainProgram({ ...lm, redundant: undefined }, twoWords, place));
  const trainer = trainerOn(await openProgram(program, optionsAsWritten(lm)));
  const { width } = lm.embedding;
  try {
    const table = prefix ?? { rows: 1, width, values: new Float32Array(width) };
    return await trainer.step(batchOf(lm, texts), BigInt64Array.of(0n, 1n), table);
  } finally {
    await trainer.close();
  }
}

function batchOf({ vocabularySize }: Inspected, texts: number[][]): LmBatch {
  const length = Math.max(...texts.map((ids) => ids.length));
  const padded = (value: (id: number | undefined) => number) =>
    BigInt64Array.from(
      texts.flatMap((ids) => Array.from({ length }, (_, i) => ids[i])),
      (id) => BigInt(value(id)),
    );
  return {
    rows: texts.length,
    length,
    ids: padded((id) => Math.min(id ?? 0, vocabularySize - 1)),
    mask: padded((id) => (id === undefined ? 0 : 1)),
    slots: padded(() => -1),
    targets: BigInt64Array.from(texts, (ids) => BigInt(ids.length - 1)),
  };
}
