/**
 * `npm run bench:jobs -- --model DIR --train FILE --template JSON` measures what a training process saves by living on and
 * by packing: the time of a job of one step in a new process and in the same one after it, and the training steps a
 * second of several jobs one after the other and at once. One JSON line.
 */
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Command } from 'commander';
import type { JobSpec } from '../../src/jobs/contract.ts';
import { resolveMethod } from '../../src/jobs/defaults.ts';
import { importModel } from '../../src/lm/import.ts';
import type { ModelManifest } from '../../src/models/manifest.ts';
import type { Template } from '../../src/tasks/schema.ts';
import type { TuningJob } from '../../src/tuning/types.ts';
import { type ChildPool, createChildPool } from '../../workers/tuning/pool.ts';

interface Options {
  model: string;
  train: string;
  template: string;
  batch: number;
  jobs: number;
  steps: number;
  threads: number;
  encoder: 'lstm' | 'mlp' | 'embedding';
}

const script = fileURLToPath(new URL('../../workers/tuning-child.ts', import.meta.url));
/** Few, so that scoring does not count. */
const devRows = 8;

/** Makes jobs that differ in seed and name; none is scored before its end. */
async function createJobs(options: Options, folder: string): Promise<(steps: number) => TuningJob> {
  const model: ModelManifest = await importModel(resolve(options.model), { id: 'bench' });
  const dev = join(folder, 'dev.jsonl');
  const rows = (await readFile(options.train, 'utf8')).split('\n').filter((line) => line !== '');
  await writeFile(dev, rows.slice(0, devRows).join('\n'));
  let made = 0;
  return (steps) => {
    const id = `ftjob-${++made}`;
    const method = resolveMethod(
      {
        type: 'p_tuning',
        p_tuning: {
          template: JSON.parse(options.template) as Template,
          encoder: { type: options.encoder },
          task: { type: 'cloze', drop_multi_token: true },
          hyperparameters: { batch_size: options.batch, max_steps: steps, evaluate_every: 1_000_000 },
        },
      },
      { width: model.embedding.width, trainRows: rows.length, devRows },
    );
    const spec: JobSpec = {
      id,
      owner: 'bench',
      createdAt: Math.floor(Date.now() / 1000),
      model: model.id,
      modelHash: model.hash,
      trainingFile: 'train',
      validationFile: 'dev',
      testFile: null,
      suffix: null,
      seed: made,
      metadata: {},
      method,
      fineTunedModel: `ft:bench:bench::${id}`,
    };
    return {
      spec,
      attempt: 1,
      model,
      files: { train: resolve(options.train), dev, test: null, allowedWords: null },
      directory: join(folder, 'jobs', id),
      artifacts: join(folder, 'artifacts'),
      threads: options.threads,
      device: 'cpu',
      contextBytes: 1 << 30,
      checkpointSeconds: 1000,
    };
  };
}

/** Seconds until all have succeeded, at most `packing` of them at once. */
async function timeOf(pool: ChildPool, jobs: TuningJob[]): Promise<number> {
  const begun = performance.now();
  const outcomes = await Promise.all(
    jobs.map(async (job, order) => {
      const place = await pool.place({ job: job.spec.id, lm: job.model.hash, order, isAlone: false }, 2 ** 31 - 1);
      return place!.train(job, () => {}).outcome;
    }),
  );
  for (const outcome of outcomes) if (outcome.kind !== 'succeeded') throw new Error(JSON.stringify(outcome));
  return (performance.now() - begun) / 1000;
}

async function main(options: Options): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'ptuned-bench-'));
  const poolOf = (packing: number) =>
    createChildPool({ script, config: { stepSeconds: 600, tuningSlots: 1, packing, keepSeconds: 600 } });
  const pools = { alone: poolOf(1), packed: poolOf(options.jobs) };
  try {
    const job = await createJobs(options, folder);
    const several = (steps: number) => Array.from({ length: options.jobs }, () => job(steps));
    const round = (value: number) => Math.round(value * 1000) / 1000;
    const first = await timeOf(pools.alone, [job(1)]);
    const second = await timeOf(pools.alone, [job(1)]);
    // The same process trains both ways by turns, so that neither has the machine's better minutes.
    await timeOf(pools.packed, several(2));
    const total = options.jobs * options.steps;
    const rates = { alone: [] as number[], packed: [] as number[] };
    for (let i = 0; i < 3; i++) {
      for (const way of ['alone', 'packed'] as const) {
        rates[way].push(total / (await timeOf(pools[way], several(options.steps))));
      }
    }
    const best = (values: number[]) => Math.max(...values);
    const median = (values: number[]) => values.sort((a, b) => a - b)[values.length >> 1]!;
    const result = {
      first_job_s: round(first),
      second_job_s: round(second),
      start_ratio: round(first / second),
      steps_per_second_alone: round(median(rates.alone)),
      steps_per_second_packed: round(median(rates.packed)),
      packing_ratio: round(median(rates.packed) / median(rates.alone)),
      packing_ratio_best: round(best(rates.packed) / best(rates.alone)),
      ...options,
    };
    console.log(JSON.stringify(result));
  } finally {
    for (const pool of Object.values(pools)) pool.close();
    await rm(folder, { recursive: true, force: true });
  }
}

const count = (text: string): number => {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1) throw new Error(`"${text}" is not a positive whole number`);
  return value;
};
const command = new Command('bench:jobs')
  .requiredOption('--model <dir>', 'folder of the LM')
  .requiredOption('--train <file>', 'JSONL rows')
  .requiredOption('--template <json>', 'template of the rows')
  .option('--batch <rows>', 'rows a batch', count, 8)
  .option('--jobs <jobs>', 'jobs at once', count, 4)
  .option('--steps <steps>', 'steps a job', count, 20)
  .option('--encoder <type>', 'lstm, mlp or embedding', 'lstm')
  .option('--threads <threads>', 'onnxruntime threads', count, 2);
await main(command.parse().opts<Options>());
