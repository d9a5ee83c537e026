#!/usr/bin/env node
/** The command line: starts the service, and registers frozen LMs without it. */
import { Command, InvalidArgumentError } from 'commander';
import { type Config, readConfig } from '../src/config.ts';
import { PtunedError } from '../src/errors.ts';
import { createLogger } from '../src/logger.ts';
import type { InspectionRequest } from '../src/models/inspection.ts';
import type { ImportOptions } from '../src/models/manifest.ts';
import { preflightInspection, preflightModel } from '../src/models/preflight.ts';
import { createModelRegistry } from '../src/models/registry.ts';
import { describeInspection } from './describe-inspection.ts';
import { describeModel, listModels } from './describe-model.ts';
import { parseRoles, roleNames, startService } from './supervisor.ts';

interface DataOption {
  data?: string;
}

const program = new Command('ptuned').description('P-tuning as a service on frozen ONNX language models.');
const embeddingOption = [
  '--embedding <node>',
  'the node that looks up word embeddings, where it cannot be told (a refusal lists those there are)',
] as const;
const graphOption = [
  '--graph <file>',
  'the graph, relative to the folder, where there are several (onnx/model_q4.onnx)',
] as const;
const dataOption = ['--data <directory>', 'where everything is kept (default: PTUNED_DATA, or ./.ptuned)'] as const;

function configOf({ data }: DataOption): Config {
  return readConfig(data === undefined ? process.env : { ...process.env, PTUNED_DATA: data });
}

/** One line for what a user can do something about; anything else with its stack. */
function explain(error: unknown): string {
  if (error instanceof PtunedError) return error.message;
  if (!(error instanceof Error)) return String(error);
  const { code, path } = error as NodeJS.ErrnoException;
  if (code === undefined || path === undefined) return error.stack ?? error.message;
  return `${error.message}. PTUNED_DATA or --data says where everything is kept: a folder that can be written.`;
}

function wholeNumber(text: string): number {
  if (!/^[1-9]\d{0,5}$/.test(text)) throw new InvalidArgumentError('A whole number from 1 to 999999 is expected.');
  return Number(text);
}

program
  .command('start')
  .description('run the service in the foreground')
  .option('--roles <list>', `parts to run here, separated by commas: ${roleNames.join(', ')}`, roleNames.join(','))
  .option(...dataOption)
  .action(async (options: DataOption & { roles: string }) => {
    const config = configOf(options);
    const roles = parseRoles(options.roles);
    const stopping = new AbortController();
    const stopped = new Promise<void>((resolve) => stopping.signal.addEventListener('abort', () => resolve()));
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => stopping.abort());
    // Started by another program with a channel (the demo, tests): it does not outlive that program.
    process.on('disconnect', () => stopping.abort());
    try {
      const service = await startService(config, roles, createLogger('ptuned', config.logLevel), stopping.signal);
      console.log(service.url === null ? 'ptuned is ready' : `ptuned is ready at ${service.url}`);
      await stopped;
      await service.stop();
    } catch (error) {
      if (!stopping.signal.aborted) throw error;
    }
    process.exit(0);
  });

const models = program.command('models').description('frozen LMs that can be tuned');

models
  .command('add')
  .description('check and register an ONNX LM in the layout of the Hugging Face Hub; its files stay where they are')
  .argument('<directory>', 'folder with config.json, tokenizer.json and model.onnx or onnx/model.onnx')
  .option('--id <id>', "its name in the service (default: the folder's)")
  .option(...embeddingOption)
  .option(...graphOption)
  .option(...dataOption)
  .action(async (directory: string, { data, ...options }: DataOption & ImportOptions) => {
    const config = configOf(data === undefined ? {} : { data });
    const manifest = await preflightModel(directory, options);
    await createModelRegistry(config.dataDirectory).put(manifest);
    console.log(describeModel(manifest));
  });

models
  .command('inspect')
  .description('show what an ONNX LM is made of, whether it trains, and the memory that takes; registers nothing')
  .argument('<directory>', 'folder with config.json and model.onnx or onnx/model.onnx')
  .option('--batch <rows>', 'rows of a training batch', wholeNumber, 8)
  .option('--length <tokens>', 'tokens of a row, pseudo tokens included', wholeNumber, 32)
  .option(...embeddingOption)
  .option(...graphOption)
  .action(async (directory: string, { batch, length, ...options }: InspectionRequest & ImportOptions) => {
    console.log(describeInspection(await preflightInspection(directory, { batch, length }, options)));
  });

models
  .command('list')
  .description('the registered LMs')
  .option(...dataOption)
  .action(async (options: DataOption) => {
    console.log(listModels(await createModelRegistry(configOf(options).dataDirectory).list()));
  });

models
  .command('remove')
  .description('forget an LM; its files stay where they are')
  .argument('<id>')
  .option(...dataOption)
  .action(async (id: string, options: DataOption) => {
    const { dataDirectory } = configOf(options);
    if (!(await createModelRegistry(dataDirectory).remove(id))) {
      throw new PtunedError('model_not_found', `There is no model "${id}" in ${dataDirectory}.`);
    }
    console.log(`${id} is no longer registered.`);
  });

try {
  await program.parseAsync();
} catch (error) {
  console.error(`ptuned: ${explain(error)}`);
  process.exit(1);
}
