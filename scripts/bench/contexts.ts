/** Training steps of rows with a text before their first pseudo token: rows whole, and behind contexts, in turns. */
import { PtunedError } from '../../src/errors.ts';
import { inChild } from './child.ts';
import { type BenchLm, importedLm } from './lms.ts';
import { median, minimum } from './statistics.ts';
import { megabytes, ms, table } from './table.ts';
import type { TrainTask, TrainTimes } from './train-child.ts';
import type { Taken } from './watch.ts';

export interface ContextCase {
  lm: BenchLm;
  batch: number;
  /** Tokens before the first pseudo token of a row, all rows different. */
  context: number;
  /** Tokens from there on, pseudo tokens included. */
  length: number;
  virtual: number;
  /** Counted steps a process, and processes of each way. */
  steps: number;
  rounds: number;
  threads: number;
}

/** Rows whole; with contexts apart; behind contexts that are read in each step; behind contexts that were kept. */
const ways = {
  whole: {},
  apart: { place: 'apart' },
  read: { place: 'behind', contextBytes: 0 },
  kept: { place: 'behind', contextBytes: 2 ** 40 },
} as const satisfies Record<string, Pick<TrainTask, 'place' | 'contextBytes'>>;
type Way = keyof typeof ways;

export interface WayResult {
  minMs: number;
  medianMs: number;
  peakBytes: number;
  /** Medians of whole rows' steps through this way's, in the same round. */
  ratioMin: number;
  ratioMedian: number;
}

export interface ContextResult extends Omit<ContextCase, 'lm'> {
  lm: string;
  ways: Partial<Record<Way, WayResult>>;
}

/** @throws PtunedError invalid_request for an LM in which later tokens change earlier ones */
export async function measureContexts(one: ContextCase): Promise<ContextResult> {
  const manifest = await importedLm(one.lm);
  if (manifest.redundant !== 'prefixes')
    throw new PtunedError(
      'invalid_request',
      `${one.lm.name} has no contexts: it is no causal LM that shares prefixes.`,
    );
  const { batch, context, virtual, steps, threads } = one;
  const length = context + one.length;
  const task: TrainTask = {
    ...{ manifest, batch, length, virtual, context, steps, threads },
    ...{ encoder: 'lstm', target: length - 1, profile: null },
  };
  const possible = (Object.keys(ways) as Way[]).filter((way) => needsNoCache(way) || manifest.contexts === true);
  const runs: Record<Way, (TrainTimes & Taken)[]> = { whole: [], apart: [], read: [], kept: [] };
  for (let round = 0; round < one.rounds; round++) {
    for (const way of possible) runs[way].push(await inChild<TrainTimes>('train-child', { ...task, ...ways[way] }));
  }
  const found = Object.fromEntries(possible.map((way) => [way, summary(runs[way], runs.whole)]));
  return { ...one, lm: one.lm.name, ways: found };
}

function needsNoCache(way: Way): boolean {
  return !('contextBytes' in ways[way]);
}

function summary(own: readonly (TrainTimes & Taken)[], whole: readonly TrainTimes[]): WayResult {
  const all = own.flatMap(({ steps }) => steps);
  const ratios = own.map(({ steps }, round) => median(whole[round]!.steps) / median(steps));
  return {
    minMs: minimum(all),
    medianMs: median(all),
    peakBytes: Math.max(...own.map(({ peakBytes }) => peakBytes)),
    ratioMin: minimum(ratios),
    ratioMedian: median(ratios),
  };
}

const names: Record<Way, string> = {
  whole: 'rows whole',
  apart: 'contexts apart',
  read: 'contexts read in each step',
  kept: 'contexts kept',
};

export function contextReport(results: readonly ContextResult[]): string {
  const head = ['LM', 'rows × (context + rest)', 'way', 'step ms', 'min', 'ratio', 'least', 'peak MB'];
  const rows = results.flatMap(({ lm, batch, context, length, ways: found }) =>
    (Object.entries(found) as [Way, WayResult][]).map(([way, one]) => {
      const ratios = way === 'whole' ? ['', ''] : [one.ratioMedian.toFixed(2), one.ratioMin.toFixed(2)];
      const times = [ms(one.medianMs), ms(one.minMs)];
      return [lm, `${batch} × (${context} + ${length})`, names[way], ...times, ...ratios, megabytes(one.peakBytes)];
    }),
  );
  return table(head, rows);
}
