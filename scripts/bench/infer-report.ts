/** Results of inference in words. */
import type { InferResult } from './infer.ts';
import type { LoadSummary } from './load.ts';
import { median } from './statistics.ts';
import { megabytes, ms, table } from './table.ts';

export function inferReport(results: readonly InferResult[]): string {
  const of = (all: readonly LoadSummary[], key: 'perSecond' | 'p50Ms' | 'p99Ms') =>
    ms(median(all.map((one) => one[key])));
  const rows = results.map(({ lm, prompts, single, mixed, ratioMedian, ratioMin }) => [
    ...[lm, of(single, 'perSecond'), of(single, 'p50Ms'), of(single, 'p99Ms')],
    ...[String(prompts), of(mixed, 'perSecond'), of(mixed, 'p50Ms'), of(mixed, 'p99Ms')],
    ...[ratioMedian.toFixed(2), ratioMin.toFixed(2)],
  ]);
  const one = ['one prompt: requests/s', 'p50 ms', 'p99 ms'];
  const text = table(['LM', ...one, 'prompts', 'mixed: requests/s', 'p50 ms', 'p99 ms', 'ratio', 'least'], rows);
  const more = overloadTable(results);
  return more === '' ? text : `${text}\n\n${more}`;
}

function overloadTable(results: readonly InferResult[]): string {
  const rows = results.flatMap(({ lm, overload }) => {
    if (overload === null) return [];
    const [before, most] = [overload.residentBytes[0]!, Math.max(...overload.residentBytes)];
    return [
      [
        ...[lm, overload.rate.toFixed(0), overload.perSecond.toFixed(0), ms(overload.p99Ms), String(overload.refused)],
        ...[ms(overload.refusedP50Ms), ms(overload.refusedP99Ms), String(overload.failed)],
        ...[megabytes(before), megabytes(most), overload.recoverySeconds.toFixed(1)],
      ],
    ];
  });
  const head = ['LM', 'sent/s', 'served/s', 'p99 ms', 'refused', 'refused in p50 ms', 'p99 ms', 'failed'];
  return rows.length === 0 ? '' : table([...head, 'MB before', 'MB most', 'normal after s'], rows);
}
