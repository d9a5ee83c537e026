/** How cost grows with the work: training with batch, length and layers, import with layers, preparation with rows. */
import type { Panel } from './chart.ts';
import { inChild } from './child.ts';
import type { DatasetTimes } from './dataset-child.ts';
import type { ImportTimes } from './import-child.ts';
import { type BenchLm, importedLm, lmDirectory, ownLm, sizedLm } from './lms.ts';
import { growthExponent, minimum } from './statistics.ts';
import { ms, table } from './table.ts';
import type { TrainTask, TrainTimes } from './train-child.ts';

export interface Growth {
  of: string;
  with: string;
  unit: string;
  points: { x: number; y: number }[];
  /** Slope of log cost over log work: 1 is linear. */
  exponent: number;
}

const small = { hidden: 256, heads: 4, vocabulary: 8192 };
const narrow = { hidden: 64, heads: 2, vocabulary: 512, positions: 128, intermediate: 128 };
const ofLayers = (layers: number) => sizedLm('gpt2', { layers, ...small });

export async function measureGrowth(threads: number, steps: number, mostRows: number): Promise<Growth[]> {
  const step = (lm: BenchLm, batch: number, length: number) => stepMs(lm, batch, length, threads, steps);
  const lm = ofLayers(4);
  const rows = [10_000, 100_000, 1_000_000].filter((count) => count <= mostRows);
  const imports = await series([12, 24, 48, 96], (layers) => importTimes(layers));
  const part = (of: string, read: (times: ImportTimes) => number) =>
    growth(of, 'layers', 'ms', imports.map(({ x, y }) => ({ x, y: read(y) })));
  return [
    growth('training step', 'batch', 'ms', await series([1, 2, 4, 8, 16, 32], (batch) => step(lm, batch, 32))),
    growth('training step', 'length', 'ms', await series([16, 32, 64, 128, 256, 512], (length) => step(lm, 4, length))),
    growth('training step', 'layers', 'ms', await series([2, 4, 8, 16], (layers) => step(ofLayers(layers), 8, 32))),
    part('import: passes over the graph', (times) => times.inspectMs + times.pathMs + times.programMs),
    part('import: all, sessions opened', (times) => times.importMs),
    growth('dataset preparation', 'rows', 'ms', await series(rows, (count) => prepareMs(count))),
  ];
} // biome-ignore format: one measurement a line

function growth(of: string, work: string, unit: string, points: Growth['points']): Growth {
  return { of, with: work, unit, points, exponent: growthExponent(points) };
}

async function series<T>(
  values: readonly number[],
  measure: (value: number) => Promise<T>,
): Promise<{ x: number; y: T }[]> {
  const points: { x: number; y: T }[] = [];
  for (const x of values) points.push({ x, y: await measure(x) });
  return points;
}

async function stepMs(lm: BenchLm, batch: number, length: number, threads: number, steps: number): Promise<number> {
  const manifest = await importedLm(lm);
  const task: TrainTask = {
    ...{ manifest, batch, length, virtual: 9, encoder: 'mlp', target: length - 1, steps, threads, profile: null },
  };
  return minimum((await inChild<TrainTimes>('train-child', task)).steps);
}

function importTimes(layers: number): Promise<ImportTimes> {
  return inChild<ImportTimes>('import-child', { directory: lmDirectory(sizedLm('gpt2', { layers, ...narrow })) });
}

async function prepareMs(rows: number): Promise<number> {
  const manifest = await importedLm(ownLm('demo/models/demo-gpt2'));
  return (await inChild<DatasetTimes>('dataset-child', { manifest, rows })).cpuMs;
}

export function growthReport(all: readonly Growth[]): string {
  const rows = all.map((one) => [
    ...[one.of, one.with, one.points.map(({ x }) => x).join(', ')],
    ...[one.points.map(({ y }) => ms(y)).join(', '), one.exponent.toFixed(2)],
  ]);
  return table(['cost of', 'grows with', 'values', 'ms', 'exponent'], rows);
}

/** Names of the axes: what is counted. */
const axes: Record<string, string> = {
  batch: 'rows of a batch',
  length: 'tokens of a row',
  layers: 'layers of the LM',
  rows: 'rows of the data file',
};

export function growthPanels(all: readonly Growth[]): Panel[] {
  return all.map(({ of, with: work, unit, points, exponent }) => ({
    title: of,
    x: axes[work] ?? work,
    y: unit,
    points,
    note: `grows with ${work}, exponent ${exponent.toFixed(2)}`,
  }));
}
