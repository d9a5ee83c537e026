/** Results by op, in columns. */
import type { CaseResult } from './compare-case.ts';

const headings = ['op', 'cases', 'refused', 'not run', 'failed', 'forward', 'gradient', 'elements', 'at a kink'];

export function tableLines(results: readonly CaseResult[]): string[] {
  const rows = new Map<string, CaseResult[]>();
  for (const one of results) rows.set(one.op, [...(rows.get(one.op) ?? []), one]);
  const cells = [...rows].sort(([a], [b]) => a.localeCompare(b)).map(([op, list]) => rowOf(op, list));
  const table = [headings, ...cells];
  const widths = headings.map((_, column) => Math.max(...table.map((row) => row[column]!.length)));
  return table.map((row) =>
    row.map((cell, column) => (column === 0 ? cell.padEnd(widths[0]!) : cell.padStart(widths[column]!))).join('  '),
  );
}

function rowOf(op: string, list: readonly CaseResult[]): string[] {
  const gradients = list.flatMap((one) => (one.gradient === null ? [] : [one.gradient]));
  const sum = (count: (one: CaseResult) => number) => String(list.reduce((total, one) => total + count(one), 0));
  return [
    op,
    String(list.length),
    sum((one) => (one.refused === null ? 0 : 1)),
    sum((one) => (one.notRun === null ? 0 : 1)),
    sum((one) => (one.failures.length === 0 ? 0 : 1)),
    Math.max(...list.map((one) => one.forward)).toExponential(1),
    gradients.length === 0 ? '-' : Math.max(...gradients).toExponential(1),
    sum((one) => one.elements),
    sum((one) => one.kinks),
  ];
}

/** What failed, and with `refusals` what was refused or not run, and why. */
export function failureLines(results: readonly CaseResult[], refusals: boolean): string[] {
  return results.flatMap((one) => [
    ...one.failures.slice(0, 3).map((failure) => `failed: ${one.op} ${one.name}: ${failure}`),
    ...(refusals && one.refused !== null ? [`refused: ${one.name}: ${one.refused}`] : []),
    ...(refusals && one.notRun !== null ? [`not run: ${one.name}: ${one.notRun}`] : []),
  ]);
}
