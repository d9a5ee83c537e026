/**
 * Whole tuning jobs of one LM, one after the other and at once: from the order to the stored prompt, in the process that a
 * worker trains them in, evaluations and checkpoints included. Both ways take turns.
 */
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import type { JobSpec, Progress } from '../../src/jobs/contract.ts';
import { resolveMethod } from '../../src/jobs/defaults.ts';
import type { ModelManifest } from '../../src/models/manifest.ts';
import type { EncoderType } from '../../src/prompts/schema.ts';
import type { Template } from '../../src/tasks/schema.ts';
import type { TuningJob } from '../../src/tuning/types.ts';
import { sibling } from '../../workers/sibling.ts';
import { type ChildPool, createChildPool } from '../../workers/tuning/pool.ts';
import { type BenchLm, importedLm } from './lms.ts';
import { median, minimum } from './statistics.ts';

export type JobsEncoder = Exclude<EncoderType, 'projection'>;

export interface JobsCase {
  lm: BenchLm;
  encoder: JobsEncoder;
  batch: number;
  /** Jobs, all of them at once where they are packed. */
  jobs: number;
  /** Steps of each, and after how many it is scored. */
  steps: number;
  evaluateEvery: number;
  /** Rows of one's own and their template; null for rows of 12 to 16 tokens. */
  data: { train: string; template: string } | null;
}

export interface JobsResult extends Omit<JobsCase, 'lm' | 'data'> {
  lm: string;
  /** Seconds of a job of one step in a new process, and in one that has trained a job before. */
  firstSeconds: number;
  nextSeconds: number;
  /** Seconds until all jobs had ended, pair by pair. */
  alone: number[];
  packed: number[];
  ratioMedian: number;
  ratioMin: number;
  /** Most jobs that shared a step of the LM, as the jobs' progress tells; 1 where sharing did not pay. */
  shared: number;
}

const script = sibling(import.meta.url, '../../workers/tuning-child');

export async function measureJobs(one: JobsCase, rounds: number, threads: number): Promise<JobsResult> {
  const folder = await mkdtemp(join(tmpdir(), 'ptuned-bench-'));
  const poolOf = (packing: number) =>
    createChildPool({ script, config: { stepSeconds: 600, tuningSlots: 1, packing, keepSeconds: 600 } });
  const pools = { alone: poolOf(1), packed: poolOf(one.jobs) };
  const told = { shared: 1 };
  const timeOf = (pool: ChildPool, jobs: TuningJob[]) =>
    secondsOf(pool, jobs, ({ packedJobs = 1 }) => {
      told.shared = Math.max(told.shared, packedJobs);
    });
  try {
    const create = await createJobs(one, threads, folder);
    const all = () => Array.from({ length: one.jobs }, () => create(one.steps));
    const firstSeconds = await timeOf(pools.alone, [create(1)]);
    const nextSeconds = await timeOf(pools.alone, [create(1)]);
    // Opens what stays open, threads and sessions, as the two jobs before did.
    await timeOf(
      pools.packed,
      Array.from({ length: one.jobs }, () => create(2)),
    );
    const seconds: Record<keyof typeof pools, number[]> = { alone: [], packed: [] };
    for (let round = 0; round < rounds; round++) {
      for (const way of ['alone', 'packed'] as const) seconds[way].push(await timeOf(pools[way], all()));
    }
    const ratios = seconds.packed.map((packed, i) => seconds.alone[i]! / packed);
    const { lm, data: _data, ...rest } = one;
    return {
      ...{ ...rest, lm: lm.name, firstSeconds, nextSeconds, ...seconds, shared: told.shared },
      ...{ ratioMedian: median(ratios), ratioMin: minimum(ratios) },
    };
  } finally {
    for (const pool of Object.values(pools)) pool.close();
    await rm(folder, { recursive: true, force: true });
  }
}

/** Seconds until all have succeeded, as many at once as the pool takes. */
async function secondsOf(
  pool: ChildPool,
  jobs: TuningJob[],
  onProgress: (progress: Progress) => void,
): Promise<number> {
  const begun = performance.now();
  const outcomes = await Promise.all(
    jobs.map(async (job, order) => {
      const place = await pool.place({ job: job.spec.id, lm: job.model.hash, order, isAlone: false }, 2 ** 31 - 1);
      return place!.train(job, (told) => told.type === 'progress' && onProgress(told.progress)).outcome;
    }),
  );
  for (const outcome of outcomes) if (outcome.kind !== 'succeeded') throw new Error(JSON.stringify(outcome));
  return (performance.now() - begun) / 1000;
}

const ownTemplate: Template = [
  { virtual: 3 },
  { field: 'text', join: 'none' },
  { virtual: 3 },
  { target: 'word', join: 'none' },
];
/** As many as a relation of LAMA has, more or less. */
const rowCounts = { train: 400, dev: 64 };

/** One token a letter: with six pseudo tokens rows have 12 to 16. */
function generatedRows(count: number, from: number): string {
  const letters = 'abcdefghijklmnopqrstuvwxyz';
  return Array.from({ length: count }, (_, i) => {
    const seed = (from + i) * 7919 + 104729;
    const text = Array.from({ length: 6 + (seed % 5) }, (_, at) => letters[(seed >> at) % 26]).join('');
    return `${JSON.stringify({ text, word: letters[seed % 26] })}\n`;
  }).join('');
}

async function writeRows(data: JobsCase['data'], folder: string) {
  const files = { train: join(folder, 'train.jsonl'), dev: join(folder, 'dev.jsonl') };
  if (data === null) {
    await writeFile(files.train, generatedRows(rowCounts.train, 0));
    await writeFile(files.dev, generatedRows(rowCounts.dev, rowCounts.train));
    return { files, template: ownTemplate, rows: rowCounts };
  }
  const lines = (await readFile(data.train, 'utf8')).split('\n').filter((line) => line !== '');
  const rows = { train: lines.length, dev: Math.min(rowCounts.dev, lines.length) };
  await writeFile(files.dev, lines.slice(0, rows.dev).join('\n'));
  return { files: { ...files, train: resolve(data.train) }, template: JSON.parse(data.template) as Template, rows };
}

/** Makes jobs that differ in seed and name. */
async function createJobs(one: JobsCase, threads: number, folder: string): Promise<(steps: number) => TuningJob> {
  const model: ModelManifest = await importedLm(one.lm);
  const { files, template, rows } = await writeRows(one.data, folder);
  let made = 0;
  return (steps) => {
    const id = `ftjob-${++made}`;
    const method = resolveMethod(
      {
        type: 'p_tuning',
        p_tuning: {
          template,
          encoder: { type: one.encoder },
          task: { type: 'cloze', drop_multi_token: true },
          hyperparameters: { batch_size: one.batch, max_steps: steps, evaluate_every: one.evaluateEvery },
        },
      },
      { width: model.embedding.width, trainRows: rows.train, devRows: rows.dev },
    );
    const spec: JobSpec = {
      ...{ id, owner: 'bench', createdAt: Math.floor(Date.now() / 1000), model: model.id, modelHash: model.hash },
      ...{ trainingFile: 'train', validationFile: 'dev', testFile: null, suffix: null, seed: made, metadata: {} },
      ...{ method, fineTunedModel: `ft:bench:bench::${id}` },
    };
    return {
      ...{ spec, attempt: 1, model, threads, device: 'cpu', contextBytes: 1 << 30, checkpointSeconds: 10 },
      files: { ...files, test: null, allowedWords: null },
      directory: join(folder, 'jobs', id),
      artifacts: join(folder, 'artifacts'),
    };
  };
}
