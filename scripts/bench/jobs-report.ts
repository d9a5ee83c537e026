/** The table of whole jobs. */
import type { JobsResult } from './jobs.ts';
import { median } from './statistics.ts';
import { table } from './table.ts';

export function jobsReport(results: readonly JobsResult[]): string {
  return table(
    [
      ...['LM', 'encoder', 'batch', 'jobs', 'steps each', 'one by one: steps/s', 'at once: steps/s'],
      ...['ratio', 'least', 'jobs that shared steps', 'first job s', 'next job s'],
    ],
    results.map((one) => {
      const rate = (seconds: readonly number[]) => ((one.jobs * one.steps) / median(seconds)).toFixed(1);
      return [
        ...[one.lm, one.encoder, `${one.batch}`, `${one.jobs}`, `${one.steps}`, rate(one.alone), rate(one.packed)],
        ...[one.ratioMedian.toFixed(2), one.ratioMin.toFixed(2), one.shared > 1 ? `${one.shared}` : 'none'],
        ...[one.firstSeconds.toFixed(2), one.nextSeconds.toFixed(2)],
      ];
    }),
  );
}
