/**
 * `npm run check:memory -- DIRECTORY [--batch 8 --length 32 --limit 1.5]` imports an LM, opens it and takes training steps in
 * this process, and prints its memory after each: the largest so far, and of what is resident now the pages of mapped files
 * (the system may drop them) and the rest. Fails where the largest is above `--limit` times the weights.
 */
import { readFileSync } from 'node:fs';
import { Command, InvalidArgumentError } from 'commander';
import { PtunedError } from '../src/errors.ts';
import { importModel } from '../src/lm/import.ts';
import { openLm } from '../src/lm/open.ts';
import { inspectModel } from '../src/lm/report.ts';
import type { LmBatch } from '../src/lm/types.ts';
import { vocabularyCandidates } from '../src/tuning/reference.ts';

interface Options {
  batch: number;
  length: number;
  steps: number;
  threads: number;
  limit?: number;
}

const rowsOfTable = 9;

function memory(): { peak: number; files: number; rest: number } {
  const status = readFileSync('/proc/self/status', 'utf8');
  const field = (name: string) => Number(new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(status)?.[1]) / 1024;
  return { peak: field('VmHWM'), files: field('RssFile'), rest: field('RssAnon') };
}

function report(what: string): void {
  const { peak, files, rest } = memory();
  const cell = (value: number) => `${value.toFixed(0).padStart(6)} MiB`;
  console.log(`${what.padEnd(16)} largest ${cell(peak)}, now ${cell(files)} of files and ${cell(rest)} of its own`);
}

function batchOf({ batch: rows, length }: Options, vocabulary: number): LmBatch {
  const size = rows * length;
  return {
    rows,
    length,
    ids: BigInt64Array.from({ length: size }, (_, i) => BigInt((i * 7919) % vocabulary)),
    mask: new BigInt64Array(size).fill(1n),
    slots: BigInt64Array.from({ length: size }, (_, i) => BigInt(i % length < rowsOfTable ? i % length : -1)),
    targets: new BigInt64Array(rows).fill(BigInt(length - 1)),
  };
}

async function main(directory: string, options: Options): Promise<void> {
  report('at the start');
  const manifest = await importModel(directory, { id: 'measured' });
  report('imported');
  const lm = await openLm(manifest, { threads: options.threads, device: 'cpu' });
  const trainer = await lm.trainer(vocabularyCandidates(manifest.vocabularySize));
  report('opened');
  const { width } = manifest.embedding;
  const values = Float32Array.from({ length: rowsOfTable * width }, (_, i) => 0.02 * Math.sin(i));
  const labels = new BigInt64Array(options.batch).fill(3n);
  for (let i = 1; i <= options.steps; i++) {
    await trainer.step(batchOf(options, manifest.vocabularySize), labels, { rows: rowsOfTable, width, values });
    report(`step ${i}`);
  }
  await trainer.close();
  await lm.close();
  const weights = manifest.weightBytes / 2 ** 20;
  const { peak } = memory();
  console.log(`weights ${weights.toFixed(0)} MiB; largest ${(peak / weights).toFixed(2)} times that`);
  const { memory: estimate } = await inspectModel(directory, { batch: options.batch, length: options.length });
  if (estimate !== null) {
    const estimated = (estimate.weights + estimate.activations + estimate.process) / 2 ** 20;
    console.log(`models inspect says ${estimated.toFixed(0)} MiB: ${((100 * estimated) / peak - 100).toFixed(0)} %`);
  }
  if (options.limit !== undefined && peak > options.limit * weights) process.exitCode = 1;
}

const number = (text: string): number => {
  const value = Number(text);
  if (!(value > 0)) throw new InvalidArgumentError('A positive number is expected.');
  return value;
};
const command = new Command('check:memory')
  .argument('<directory>', 'folder of the LM')
  .option('--batch <rows>', 'rows a batch', number, 8)
  .option('--length <tokens>', 'sequence length, pseudo tokens included', number, 32)
  .option('--steps <steps>', 'training steps', number, 1)
  .option('--threads <threads>', 'onnxruntime threads', number, 2)
  .option('--limit <factor>', 'fail above so many times the weights', number);
command.parse();
try {
  await main(command.args[0]!, command.opts<Options>());
} catch (error) {
  if (!(error instanceof PtunedError)) throw error;
  console.error(`check:memory: ${error.message}`);
  process.exitCode = 1;
}
