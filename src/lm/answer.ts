/** Predictions of encoder-decoder LMs: a text is encoded once, then the decoder runs for each token of its answer. */
import type { Feed, SessionOptions } from '../onnx/session.ts';
import { decoderProgram, encoderProgram } from './answer-programs.ts';
import type { Inspected } from './inspect.ts';
import { readSteps } from './parts.ts';
import { decodeByRepeating, lastOf, padded } from './repeat.ts';
import { pickBatch, pickFeed } from './rows.ts';
import { batchFeeds, noTable, openProgram } from './run-program.ts';
import { presentsOf, stepProgram } from './step-program.ts';
import { decodeInSteps, type Stepping } from './steps.ts';
import type { Decoding, LmBatch, Predictor, PromptTable } from './types.ts';

/**
 * Encoder and decoder in a session each, so that their weights are in memory once; what goes on from the decoder's cache, which
 * has the decoder's weights again, is opened when generation first needs it.
 */
export async function createAnsweringPredictor(
  lm: Inspected,
  encoded: string,
  options: SessionOptions,
): Promise<Predictor> {
  const encoder = await openProgram(encoderProgram(lm, encoded), options);
  const program = decoderProgram(lm, encoded, lm.steps === null ? [] : presentsOf(lm.model));
  const decoder = await openProgram(program, options);
  let stepping: Promise<Stepping | null> | null = null;
  const openSteps = () => (stepping ??= openStepping(lm, { program, runner: decoder }, options));
  const encode = async (batch: LmBatch, table: PromptTable): Promise<Feed> => {
    const data = (await encoder.run(batchFeeds(batch, table)))[0] as Float32Array;
    return { dtype: 'float32', dims: [batch.rows, batch.length, data.length / (batch.rows * batch.length)], data };
  };
  const answer = async (batch: LmBatch, handed: Feed): Promise<Float32Array> => {
    const given = { ...batchFeeds(batch, noTable), [program.encoded]: handed };
    return (await decoder.fetch(given, [program.logits]))[0]!.data as Float32Array;
  };
  return {
    logits: async (batch, table) => answer(batch, await encode(batch, table)),
    async decode(batch, table) {
      const handed = await encode(batch, table);
      const steps = await openSteps();
      if (steps !== null) return decodeInSteps(steps, batch, handed, lm.vocabularySize);
      return decodeAnswers(batch, (rows, given) =>
        answer({ ...pickBatch(batch, rows), ...given }, pickFeed(handed, rows)),
      );
    },
    async close() {
      await encoder.close();
      await decoder.close();
      await (await stepping)?.next.runner.close();
    },
  };
}

/** Null where the export has no decoder that goes on from its cache. */
async function openStepping(
  lm: Inspected,
  first: Stepping['first'],
  options: SessionOptions,
): Promise<Stepping | null> {
  if (lm.steps === null) return null;
  const program = stepProgram(readSteps(lm.graphDirectory, lm.steps), new Set(first.program.presents.keys()));
  return program === null ? null : { first, next: { program, runner: await openProgram(program, options) } };
}

/** Logits [rows.length, vocabulary] of the next token of these rows of a batch, given their answers so far. */
export type Answer = (
  rows: readonly number[],
  given: { decoder: NonNullable<LmBatch['decoder']>; targets: BigInt64Array },
) => Promise<Float32Array>;

/** For an LM whose encoder cannot be told from its decoder: each token runs both. */
export function answering(logits: Predictor['logits'], batch: LmBatch, table: PromptTable): Answer {
  return (rows, given) => logits({ ...pickBatch(batch, rows), ...given }, table);
}

/** Generation behind the batch's decoder ids, up to each row's target. */
export function decodeAnswers(batch: LmBatch, answer: Answer): Promise<Decoding> {
  const { length, ids } = batch.decoder!;
  const begun = Array.from(batch.targets, (target, row) => [
    ...ids.subarray(row * length, row * length + Number(target) + 1),
  ]);
  return decodeByRepeating(begun, (sequences) =>
    answer(
      sequences.map(({ row }) => row),
      { decoder: padded(sequences), targets: lastOf(sequences) },
    ),
  );
}
