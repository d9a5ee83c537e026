/**
 * Steps and scores of rows behind their contexts: tokens before a row's first pseudo token, which in a causal LM depend on no
 * prompt. Their keys and values are read without a gradient, and may be kept from one step to the next.
 */
import { pastInputs } from '../models/past.ts';
import type { Feed, SessionOptions } from '../onnx/session.ts';
import type { Candidates } from '../tasks/types.ts';
import type { LmGraph } from './assemble.ts';
import { openBehind, startBehind } from './behind.ts';
import { pastOfRow } from './past.ts';
import { type Program, scoreProgram, trainProgram } from './programs.ts';
import { batchFeeds, scoreResult, stepResult } from './run-program.ts';
import type { LmBatch, PromptTable, Scorer, Trainer } from './types.ts';

/** A trainer whose batches may have contexts. */
export async function openTrainerBehind(
  lm: LmGraph,
  candidates: Candidates,
  options: SessionOptions,
): Promise<Trainer> {
  const program = trainProgram(lm, candidates, 'behind');
  const { run, close } = await openRows(lm, program, options);
  return {
    step: async (batch, labels, table, weights) =>
      stepResult(dataOf(await run(batchFeeds(batch, table, labels, weights), batch, program.outputs))),
    close,
  };
}

/** A scorer whose batches may have contexts, which it also reads. */
export async function openScorerBehind(lm: LmGraph, candidates: Candidates, options: SessionOptions): Promise<Scorer> {
  const program = scoreProgram(lm, candidates, 'behind');
  const [scores, presents] = [program.outputs.slice(0, 3), program.outputs.slice(3)];
  const { width } = lm.embedding;
  const noTable: PromptTable = { rows: 1, width, values: new Float32Array(width) };
  const { run, close } = await openRows(lm, program, options);
  return {
    score: async (batch, labels, table) =>
      scoreResult(dataOf(await run(batchFeeds(batch, table, labels), batch, scores))),
    // A row alone: what stands beside it in a batch, and how long that is, decides how the runtime adds up.
    async read(ids) {
      const batch = textOf(ids);
      const past = await run(batchFeeds(batch, noTable, new BigInt64Array(1)), batch, presents);
      return pastOfRow(past, 0, { from: 0, to: 0 }, ids.length);
    },
    close,
  };
}

async function openRows({ inputs }: LmGraph, program: Program, options: SessionOptions) {
  const past = pastInputs(inputs).map((one) => ({ ...one, input: one.name }));
  const { run, close } = await openBehind(program, past, options);
  return {
    run(given: Record<string, Feed>, batch: LmBatch, outputs: readonly string[]): Promise<Feed[]> {
      const contexts = batch.contexts ?? Array.from({ length: batch.rows }, () => null);
      return run(given, batch, startBehind(past, contexts), outputs);
    },
    close,
  };
}

function dataOf(feeds: readonly Feed[]): Feed['data'][] {
  return feeds.map(({ data }) => data);
}

/** One row of plain tokens. */
export function textOf(ids: readonly number[]): LmBatch {
  const { length } = ids;
  return {
    rows: 1,
    length,
    ids: BigInt64Array.from(ids, BigInt),
    mask: new BigInt64Array(length).fill(1n),
    slots: new BigInt64Array(length).fill(-1n),
    targets: new BigInt64Array(1),
  };
}
