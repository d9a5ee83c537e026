/** Runs of programs whose rows stand behind keys and values of their own. */
import { pastInputs } from '../models/past.ts';
import type { Feed, SessionOptions } from '../onnx/session.ts';
import type { Candidates } from '../tasks/types.ts';
import type { LmGraph } from './assemble.ts';
import { feeds } from './feeds.ts';
import { packingFeeds } from './packing-feeds.ts';
import { type Past, type PastShape, pastOfRow, type Scratch, stackPasts } from './past.ts';
import { type Program, scoreProgram, trainProgram } from './programs.ts';
import { lengthsOf, textOf } from './rows.ts';
import { batchFeeds, fetchFrom, openGraph, scoreResult, stepResult } from './run-program.ts';
import type { LmBatch, PromptTable, Scorer, Trainer } from './types.ts';

/** What stands before a batch's rows. */
export interface Start {
  /** A feed [rows, heads, longest, size] for each past input. */
  past: Feed[];
  /** [rows][longest]: 0 where a row has less than the longest. */
  mask: bigint[][];
  /** Tokens before each row's first, which its positions count on from. */
  before: number[];
  /** Rows of equal numbers have the same before them, so that what they begin with alike is the same too. */
  groups: number[];
}

export interface BehindRunner {
  /** The program's `outputs` of these names, in their order. `given` are the feeds of the batch without what is before it. */
  run(given: Record<string, Feed>, batch: LmBatch, start: Start, outputs: readonly string[]): Promise<Feed[]>;
  close(): Promise<void>;
}

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
      return pastOfRow(past, 0, 0, ids.length);
    },
    close,
  };
}

async function openRows({ inputs }: LmGraph, program: Program, options: SessionOptions) {
  const past = pastInputs(inputs).map((one) => ({ ...one, input: one.name }));
  const { run, close } = await openBehind(program, past, options);
  const scratch: Scratch = [];
  return {
    run(given: Record<string, Feed>, batch: LmBatch, outputs: readonly string[]): Promise<Feed[]> {
      const contexts = batch.contexts ?? Array.from({ length: batch.rows }, () => null);
      return run(given, batch, startBehind(past, contexts, scratch), outputs);
    },
    close,
  };
}

function dataOf(feeds: readonly Feed[]): Feed['data'][] {
  return feeds.map(({ data }) => data);
}

/** @param past the program's past inputs, in the order of what it is started behind */
export async function openBehind(
  program: Program,
  past: readonly { input: string }[],
  options: SessionOptions,
): Promise<BehindRunner> {
  const session = await openGraph(program, options);
  const isPacked = session.inputs.includes(feeds.packed);
  return {
    async run(given, batch, start, outputs) {
      const all = { ...given, ...startFeeds(start, batch) };
      for (const [i, { input }] of past.entries()) all[input] = start.past[i]!;
      if (isPacked) Object.assign(all, packingFeeds(batch, batch.targets, program.sharesPrefixes, start));
      return fetchFrom(session, all, outputs);
    },
    close: () => session.close(),
  };
}

/** Rows of a batch behind what each has before it; equal objects are the same tokens. */
export function startBehind(shapes: readonly PastShape[], pasts: readonly (Past | null)[], scratch?: Scratch): Start {
  const before = pasts.map((past) => past?.tokens ?? 0);
  const longest = Math.max(0, ...before);
  const distinct = [...new Set(pasts)];
  return {
    past: stackPasts(shapes, pasts, scratch),
    mask: before.map((count) => Array.from({ length: longest }, (_, i) => (i < longest - count ? 0n : 1n))),
    before,
    groups: pasts.map((past) => distinct.indexOf(past)),
  };
}

/** Mask over what stands before and the batch, and positions that count on from each row's own tokens. */
function startFeeds({ mask, before }: Start, batch: LmBatch): Record<string, Feed> {
  const { rows, length } = batch;
  const positions = lengthsOf(batch).flatMap((count, row) =>
    Array.from({ length }, (_, i) => BigInt(before[row]! + Math.min(i, Math.max(count - 1, 0)))),
  );
  const whole = mask.flatMap((own, row) => [...own, ...batch.mask.subarray(row * length, (row + 1) * length)]);
  return {
    [feeds.mask]: { dtype: 'int64', dims: [rows, whole.length / rows], data: BigInt64Array.from(whole) },
    [feeds.positions]: { dtype: 'int64', dims: [rows, length], data: BigInt64Array.from(positions) },
  };
}
