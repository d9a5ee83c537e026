/**
 * `npm run bench -- train --suite` and others: see docs/benchmarks.md. LMs are generated with random weights, every
 * measurement runs in a fresh process, ratios come from runs in turns.
 */
import { Command, InvalidArgumentError, Option } from 'commander';
import type { EncoderType } from '../../src/prompts/schema.ts';
import { charts } from './chart.ts';
import { type ContextCase, contextReport, measureContexts } from './contexts.ts';
import { type Publishing, publish } from './document.ts';
import { type GenerateCase, measureGeneration } from './generate.ts';
import { growthPanels, growthReport, measureGrowth } from './growth.ts';
import { type InferResult, measureInference } from './infer.ts';
import { inferReport } from './infer-report.ts';
import { type JobsCase, type JobsEncoder, type JobsResult, measureJobs } from './jobs.ts';
import { jobsReport } from './jobs-report.ts';
import { type BenchLm, benchLm, lmNames, ownLm } from './lms.ts';
import { describeMachine, measureMachine } from './machine.ts';
import { measureTraining, type TrainCase, type TrainResult } from './train.ts';
import { opReport, trainReport } from './train-report.ts';

const count = (text: string): number => {
  if (!/^[1-9]\d{0,8}$/.test(text)) throw new InvalidArgumentError('A whole number above 0 is expected.');
  return Number(text);
};

/** "25,100,200" */
const counts = (text: string): number[] => text.split(',').map(count);

interface TrainOptions extends Publishing {
  suite?: true;
  lm: string;
  model?: string;
  batch: number;
  length: number;
  virtual: number;
  encoder: EncoderType;
  steps: number;
  rounds: number;
  threads: number;
  profile?: true;
  peer?: [string, string];
}

/** LMs and batches of the table: the paper's and PEFT's usual ones. */
const suite: readonly (readonly [lm: string, batch: number, length: number])[] = [
  ['gpt2', 8, 32],
  ['gpt2', 8, 12],
  ['gpt2', 2, 256],
  ['bert-base', 8, 32],
  ['llama-135m', 8, 32],
];

async function train(options: TrainOptions): Promise<void> {
  const { virtual, encoder, steps, rounds, threads } = options;
  const one = options.model === undefined ? benchLm(options.lm) : ownLm(options.model);
  const chosen: [lm: BenchLm, batch: number, length: number][] = options.suite
    ? suite.map(([lm, batch, length]) => [benchLm(lm), batch, length])
    : [[one, options.batch, options.length]];
  const cases = chosen.map(([lm, batch, length]): TrainCase => ({ lm, batch, length, virtual, encoder }));
  const [python, script] = options.peer ?? [];
  const peer = python === undefined || script === undefined ? null : { python, script };
  const machine = await measureMachine(threads);
  console.log(describeMachine(machine));
  const results: TrainResult[] = [];
  for (const one of cases) {
    console.error(`${one.lm.name}, batch ${one.batch} × ${one.length} …`);
    results.push(
      await measureTraining(one, { steps, rounds, threads, peer, profile: options.profile === true }, machine),
    );
  }
  const text = trainReport(results, machine);
  console.log(`\n${text}`);
  for (const result of results) if (result.ops !== null) console.log(`\n${opReport(result)}`);
  publish(options, 'train', { machine, steps, rounds, results }, `${describeMachine(machine)}.\n\n${text}`);
}

interface InferOptions extends Publishing {
  lm: string[];
  prompts: number;
  clients: number;
  seconds: number;
  rounds: number;
  threads: number;
  overload: number;
  overloadSeconds: number;
}

async function infer(options: InferOptions): Promise<void> {
  const { clients, seconds, rounds, threads, prompts } = options;
  const overload = { times: options.overload, seconds: options.overloadSeconds };
  const machine = await measureMachine(threads);
  console.log(describeMachine(machine));
  const results: InferResult[] = [];
  for (const name of options.lm) {
    console.error(`${name} …`);
    results.push(await measureInference(benchLm(name), prompts, { clients, seconds, rounds, threads, overload }));
  }
  const text = inferReport(results);
  console.log(`\n${text}`);
  publish(options, 'infer', { machine, clients, seconds, results }, `${describeMachine(machine)}.\n\n${text}`);
}

async function growth(options: Publishing & { threads: number; steps: number; rows: number }): Promise<void> {
  const machine = await measureMachine(options.threads);
  console.log(describeMachine(machine));
  const all = await measureGrowth(options.threads, options.steps, options.rows);
  const text = growthReport(all);
  console.log(`\n${text}`);
  publish(options, 'growth', { machine, all }, `${describeMachine(machine)}.\n\n${text}`, charts(growthPanels(all)));
}

interface JobsOptions extends Publishing {
  lm: string[];
  model?: string;
  train?: string;
  template?: string;
  encoder: JobsEncoder[];
  batch: number;
  jobs: number;
  steps: number;
  evaluateEvery: number;
  rounds: number;
  threads: number;
}

async function jobs(options: JobsOptions): Promise<void> {
  const { batch, steps, evaluateEvery, rounds, threads, train, template } = options;
  if ((train === undefined) !== (template === undefined)) program.error('--train and --template belong together');
  const data = train === undefined || template === undefined ? null : { train, template };
  const lms = options.model === undefined ? options.lm.map(benchLm) : [ownLm(options.model)];
  const machine = await measureMachine(threads);
  console.log(describeMachine(machine));
  const results: JobsResult[] = [];
  for (const encoder of options.encoder) {
    for (const lm of lms) {
      console.error(`${lm.name}, ${encoder} …`);
      const one: JobsCase = { lm, encoder, batch, jobs: options.jobs, steps, evaluateEvery, data };
      results.push(await measureJobs(one, rounds, threads));
    }
  }
  const text = jobsReport(results);
  console.log(`\n${text}`);
  publish(options, 'jobs', { machine, results }, `${describeMachine(machine)}.\n\n${text}`);
}

type GenerateOptions = Omit<GenerateCase, 'folder'>;

async function generate(folder: string, options: GenerateOptions): Promise<void> {
  const { rows, length, tokens, cached, whole, ratio } = await measureGeneration({ ...options, folder });
  const ms = (one: typeof cached) => `${one.minimum.toFixed(0)} / ${one.median.toFixed(0)} ms`;
  console.log(
    [
      `${tokens} tokens behind ${rows} texts of ${length} tokens, least / median of ${options.rounds} rounds in turns:`,
      `  from the decoder's cache              ${ms(cached)}`,
      `  the whole decoder for each token      ${ms(whole)}`,
      `  ratio                                 ${ratio.minimum.toFixed(2)} / ${ratio.median.toFixed(2)}`,
    ].join('\n'),
  );
}

interface ContextOptions extends Publishing, Omit<ContextCase, 'lm' | 'context'> {
  lm: string;
  model?: string;
  context: number[];
}

async function contexts({ lm, model, context, ...options }: ContextOptions): Promise<void> {
  const machine = await measureMachine(options.threads);
  console.log(describeMachine(machine));
  const results = [];
  for (const tokens of context) {
    const one = { ...options, context: tokens, lm: model === undefined ? benchLm(lm) : ownLm(model) };
    console.error(`${one.lm.name}, ${one.batch} rows of ${tokens} + ${one.length} tokens …`);
    results.push(await measureContexts(one));
  }
  const text = contextReport(results);
  console.log(`\n${text}`);
  publish(options, 'contexts', { machine, results }, `${describeMachine(machine)}.\n\n${text}`);
}

const program = new Command('bench').description('how fast this is, and how near to what the machine can do');
const publishing = (command: Command) =>
  command
    .option('--json <file>', 'also write the figures as JSON')
    .option('--docs <folder>', "update the folder's benchmarks.md and its figures")
    .option('--threads <count>', 'threads of onnxruntime and of the peer', count, 2);

publishing(program.command('train').description('whole training steps: encoder, LM forward and backward, optimizer'))
  .option('--suite', 'the five cases of the table in docs/benchmarks.md')
  .addOption(new Option('--lm <name>', 'which LM').choices(lmNames).default('gpt2'))
  .option('--model <folder>', 'an LM of your own instead, in the layout of the Hugging Face Hub')
  .option('--batch <rows>', 'rows of a batch', count, 8)
  .option('--length <tokens>', 'tokens of a row, pseudo tokens included', count, 32)
  .option('--virtual <tokens>', 'pseudo tokens', count, 9)
  .addOption(new Option('--encoder <type>', 'prompt encoder').choices(['lstm', 'mlp', 'embedding']).default('lstm'))
  .option('--steps <count>', 'counted steps a process', count, 7)
  .option('--rounds <count>', 'processes, or pairs of processes with a peer', count, 3)
  .option('--profile', "also where the LM's time goes by op, from onnxruntime's own profile")
  .option('--peer <python and script...>', 'a Python with torch and peft, and the script that trains the same shapes')
  .action(train);

publishing(program.command('contexts').description('training steps of rows with texts before their first pseudo token'))
  .addOption(new Option('--lm <name>', 'an LM with its cache').choices(lmNames).default('gpt2-cache'))
  .option('--model <folder>', 'an LM of your own instead, exported with its cache')
  .option('--batch <rows>', 'rows of a batch', count, 8)
  .option(
    '--context <tokens>',
    'tokens before the first pseudo token, one number or several: 25,100,200',
    counts,
    [200],
  )
  .option('--length <tokens>', 'tokens from there on, pseudo tokens included', count, 30)
  .option('--virtual <tokens>', 'pseudo tokens', count, 9)
  .option('--steps <count>', 'counted steps a process', count, 3)
  .option('--rounds <count>', 'processes of each way, in turns', count, 2)
  .action(contexts);

publishing(program.command('infer').description('requests to the inference server: one tuned prompt, many, too many'))
  .addOption(new Option('--lm <names...>', 'which LMs').choices(lmNames).default(['gpt2-cache', 'gpt2-small']))
  .option('--prompts <count>', 'different tuned prompts in the mixed load', count, 64)
  .option('--clients <count>', 'clients that each wait for their answer', count, 64)
  .option('--seconds <count>', 'length of each measurement', count, 6)
  .option('--rounds <count>', 'measurements of each load, in turns', count, 3)
  .option('--overload <times>', 'requests sent in the overload, in times of what was served', count, 5)
  .option('--overload-seconds <count>', 'length of the overload', count, 60)
  .action(infer);

publishing(program.command('growth').description('how cost grows with batch, length, layers and rows'))
  .option('--steps <count>', 'counted steps of each case', count, 5)
  .option('--rows <count>', 'largest data file', count, 1_000_000)
  .action(growth);

publishing(program.command('jobs').description('whole tuning jobs of one LM, one after the other and at once'))
  .addOption(new Option('--lm <names...>', 'which LMs').choices(lmNames).default(['gpt2-small', 'gpt2']))
  .option('--model <folder>', 'an LM of your own instead, in the layout of the Hugging Face Hub')
  .option('--train <file>', 'JSONL rows of your own, with --template')
  .option('--template <json>', 'template of these rows')
  .addOption(
    new Option('--encoder <types...>', 'prompt encoders')
      .choices(['lstm', 'mlp', 'embedding'])
      .default(['lstm', 'embedding']),
  )
  .option('--batch <rows>', 'rows of a batch', count, 8)
  .option('--jobs <count>', 'jobs', count, 4)
  .option('--steps <count>', 'steps of each', count, 40)
  .option('--evaluate-every <steps>', 'steps between two evaluations', count, 20)
  .option('--rounds <count>', 'pairs of measurements, in turns', count, 3)
  .action(jobs);

program
  .command('generate <folder>')
  .description('an encoder-decoder LM of your own: generation from its cache and without, in turns')
  .option('--rows <count>', 'texts', count, 8)
  .option('--length <tokens>', 'tokens of the longest text', count, 32)
  .option('--tokens <count>', 'tokens generated for each', count, 32)
  .option('--rounds <count>', 'rounds', count, 5)
  .option('--threads <count>', 'threads of onnxruntime', count, 2)
  .action(generate);

await program.parseAsync();
