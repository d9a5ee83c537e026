/**
 * `npm run bench:train -- --model DIR --batch 8 --length 32 --virtual 9 --encoder lstm --steps 7`
 * times whole training steps (encoder, LM forward and backward, encoder backward, Adam) and prints one JSON line.
 * `--length` counts the pseudo tokens; one target a row, read at its last position.
 */
import { cpus } from 'node:os';
import { Command } from 'commander';
import { inspectDirectory } from '../src/lm/inspect.ts';
import { predictProgram, trainProgram } from '../src/lm/programs.ts';
import { batchFeeds, openProgram, trainerOn } from '../src/lm/run-program.ts';
import type { LmBatch } from '../src/lm/types.ts';
import { openEncoder } from '../src/prompts/open.ts';
import type { EncoderType } from '../src/prompts/schema.ts';
import { createOptimizer, initialOptimizerState } from '../src/tuning/optimizers/registry.ts';
import { vocabularyCandidates } from '../src/tuning/reference.ts';
import { trainStep } from '../src/tuning/step.ts';

interface Options {
  model: string;
  batch: number;
  length: number;
  virtual: number;
  encoder: EncoderType;
  steps: number;
  threads: number;
}

/** Two runs that are not counted come first: they allocate arenas and pack weights. */
const warmup = 2;

async function measure(steps: number, run: () => Promise<unknown>): Promise<{ median_ms: number; min_ms: number }> {
  const times: number[] = [];
  for (let i = 0; i < steps + warmup; i++) {
    const start = performance.now();
    await run();
    times.push(performance.now() - start);
  }
  const counted = times.slice(warmup).sort((a, b) => a - b);
  const round = (value: number) => Math.round(value * 10) / 10;
  return { median_ms: round(counted[counted.length >> 1]!), min_ms: round(counted[0]!) };
}

/** Ids from a fixed linear congruence, pseudo tokens in front. */
function benchBatch(options: Options, vocabulary: number): LmBatch {
  const { batch: rows, length, virtual } = options;
  const size = rows * length;
  return {
    rows,
    length,
    ids: BigInt64Array.from({ length: size }, (_, i) => BigInt(5 + ((i * 7919) % Math.min(995, vocabulary - 5)))),
    mask: new BigInt64Array(size).fill(1n),
    slots: BigInt64Array.from({ length: size }, (_, i) => (i % length < virtual ? BigInt(i % length) : -1n)),
    targets: new BigInt64Array(rows).fill(BigInt(length - 1)),
  };
}

async function main(options: Options): Promise<void> {
  const lm = inspectDirectory(options.model);
  const session = { threads: options.threads, device: 'cpu' as const, directory: lm.graphDirectory };
  const batch = benchBatch(options, lm.vocabularySize);
  const labels = new BigInt64Array(batch.rows).fill(11n);
  const width = lm.embedding.width;
  const shape = { type: options.encoder, layers: 2, virtualTokens: options.virtual, width, base: null };

  const runner = await openProgram(trainProgram(lm, vocabularyCandidates(lm.vocabularySize)), session);
  const trainer = trainerOn(runner);
  const encoder = await openEncoder(shape, { threads: options.threads });
  const parameters = encoder.initialise(0);
  const optimizer = createOptimizer('adam', initialOptimizerState(parameters), { weightDecay: 0 });
  const settings = { learningRate: 1e-4, gradientClip: null };
  const step = await measure(options.steps, () =>
    trainStep({ trainer, encoder, optimizer }, parameters, batch, labels, settings),
  );
  const table = { rows: options.virtual, width, values: await encoder.forward(parameters) };
  const lmStep = await measure(options.steps, () => trainer.step(batch, labels, table));
  const peak = process.resourceUsage().maxRSS / 1024;
  await encoder.close();
  await runner.close();

  const forwardRunner = await openProgram(predictProgram(lm), session);
  const forward = await measure(options.steps, () => forwardRunner.run(batchFeeds(batch, table)));
  await forwardRunner.close();
  const result = {
    step,
    forward,
    lm_step: lmStep,
    peak_mb: Math.round(peak),
    model: options.model,
    batch: options.batch,
    length: options.length,
    virtual: options.virtual,
    encoder: options.encoder,
    threads: options.threads,
    cpu: cpus()[0]?.model ?? 'unknown',
  };
  console.log(JSON.stringify(result));
}

const count = (text: string): number => {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1) throw new Error(`"${text}" is not a positive whole number`);
  return value;
};
const command = new Command('bench:train')
  .requiredOption('--model <dir>', 'folder of the LM')
  .option('--batch <rows>', 'rows a batch', count, 8)
  .option('--length <tokens>', 'sequence length, pseudo tokens included', count, 32)
  .option('--virtual <tokens>', 'pseudo tokens', count, 9)
  .option('--encoder <type>', 'lstm, mlp or embedding', 'lstm')
  .option('--steps <steps>', 'counted steps', count, 7)
  .option('--threads <threads>', 'onnxruntime threads', count, 2);
await main(command.parse().opts<Options>());
