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

/** Rows whole; behind contexts that are read in each step; behind contexts that were kept. */
const ways = { whole: undefined, read: 0, kept: 2 ** 40 } as const;
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
  ways: Record<Way, WayResult>;
}

/** @throws PtunedError invalid_request for an LM that takes no contexts */
export async function measureContexts(one: ContextCase): Promise<ContextResult> {
  const manifest = await importedLm(one.lm);
  if (manifest.contexts !== true) {
    throw new PtunedError(
      'invalid_request',
      `${one.lm.name} takes no contexts: it needs to be exported with its cache.`,
    );
  }
  const { batch, context, virtual, steps, threads } = one;
  const length = context + one.length;
  const task: TrainTask = {
    ...{ manifest, batch, length, virtual, context, steps, threads },
    ...{ encoder: 'lstm', target: length - 1, profile: null },
  };
  const runs: Record<Way, (TrainTimes & Taken)[]> = { whole: [], read: [], kept: [] };
  for (let round = 0; round < one.rounds; round++) {
    for (const way of Object.keys(ways) as Way[]) {
      const contextBytes = ways[way];
      const own = contextBytes === undefined ? task : { ...task, contextBytes };
      runs[way].push(await inChild<TrainTimes>('train-child', own));
    }
  }
  const of = (way: Way) => summary(runs[way], runs.whole);
  return { ...one, lm: one.lm.name, ways: { whole: of('whole'), read: of('read'), kept: of('kept') } };
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
  read: 'contexts read in each step',
  kept: 'contexts kept',
};

export function contextReport(results: readonly ContextResult[]): string {
  const head = ['LM', 'rows × (context + rest)', 'way', 'step ms', 'min', 'ratio', 'least', 'peak MB'];
  const rows = results.flatMap(({ lm, batch, context, length, ways: found }) =>
    (Object.keys(ways) as Way[]).map((way) => {
      const { medianMs, minMs, ratioMedian, ratioMin, peakBytes } = found[way];
      const ratios = way === 'whole' ? ['', ''] : [ratioMedian.toFixed(2), ratioMin.toFixed(2)];
      return [
        lm,
        `${batch} × (${context} + ${length})`,
        names[way],
        ms(medianMs),
        ms(minMs),
        ...ratios,
        megabytes(peakBytes),
      ];
    }),
  );
  return table(head, rows);
}
