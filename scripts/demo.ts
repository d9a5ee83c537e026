/**
 * `npm run demo`: the main job through the public HTTP API alone. Starts the service, registers the two small LMs that
 * ship with the project, tunes a prompt for each, compares it with the manual prompt, asks both, and stops what it started.
 */
import { readFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Command } from 'commander';
import colors from 'picocolors';
import { createClient } from './demo/client.ts';
import { followJob } from './demo/follow.ts';
import { startService } from './demo/service.ts';
import { printTable } from './demo/table.ts';

interface DemoTask {
  kind: 'masked' | 'causal';
  relation: string;
  /** Folder below demo/data. */
  data: string;
  manual: string;
  p_tuning: { template: unknown[]; hyperparameters?: Record<string, unknown> };
}

const root = findRoot(dirname(fileURLToPath(import.meta.url)));
const options = new Command('npm run demo --')
  .option('--keep', 'leave the service running after the demonstration')
  .parse()
  .opts<{ keep?: true }>();

/** The project's folder, from its sources as from its build. */
function findRoot(start: string): string {
  return start.endsWith(join('dist', 'scripts')) ? dirname(dirname(start)) : dirname(start);
}

async function main(): Promise<void> {
  const started = Date.now();
  const data = await mkdtemp(join(tmpdir(), 'ptuned-demo-'));
  console.log(`Starting ptuned (data in ${data})`);
  const service = await startService(data);
  const stop = async () => {
    await service.stop();
    await rm(data, { recursive: true, force: true });
  };
  const interrupted = () => {
    console.log('\nInterrupted; stopping the service.');
    void stop().finally(() => process.exit(130));
  };
  process.on('SIGINT', interrupted);
  process.on('SIGTERM', interrupted);
  try {
    await demonstrate(service.url);
    const seconds = Math.round((Date.now() - started) / 1000);
    console.log(`\nDone in ${seconds} s.`);
    if (options.keep) {
      console.log(`The service goes on at ${service.url} (--keep); ctrl-C stops it. Its API: ${service.url}/docs`);
      await service.exited;
    }
  } finally {
    process.off('SIGINT', interrupted);
    process.off('SIGTERM', interrupted);
    if (!options.keep) console.log('Stopping the service.');
    await stop();
  }
}

async function demonstrate(url: string): Promise<void> {
  const client = createClient(url);
  const tasks = JSON.parse(readFileSync(join(root, 'demo/data/tasks.json'), 'utf8')) as Record<string, DemoTask>;
  const rows: string[][] = [];
  const tuned: { model: string; task: DemoTask }[] = [];
  for (const [model, task] of Object.entries(tasks)) {
    console.log(`\n${colors.bold(model)} (${task.kind} LM): ${task.relation}`);
    const registered = await client.registerModel(join(root, 'demo/models', model), model);
    console.log(`  registered: ${registered}`);
    const upload = (split: string) => client.upload(join(root, 'demo/data', task.data, `${split}.jsonl`));
    const [train, dev, test] = [await upload('train'), await upload('dev'), await upload('test')];
    const job = await client.createJob({
      model,
      training_file: train,
      validation_file: dev,
      test_file: test,
      suffix: task.data,
      seed: 34,
      method: { type: 'p_tuning', p_tuning: task.p_tuning },
    });
    console.log(`  job ${job.id}: P-tuning with 'auto' hyperparameters`);
    const done = await followJob(client, job.id);
    const result = done.result!;
    const percent = (scores: { test: Record<string, number> | null } | null) =>
      scores?.test?.p_at_1 === undefined ? '-' : `${(100 * scores.test.p_at_1).toFixed(1)} %`;
    rows.push([
      model,
      task.relation,
      String(result.rows.test.used),
      percent(result.manual),
      percent(result.tuned),
      `${result.seconds.toFixed(0)} s`,
    ]);
    tuned.push({ model: done.fine_tuned_model!, task });
  }
  console.log(`\n${colors.bold('Facts held out from tuning, right at the first guess (P@1)')}`);
  printTable(['LM', 'relation', 'facts', 'manual prompt', 'P-tuning', 'training'], rows);
  for (const { model, task } of tuned) await ask(client, model, task);
}

async function ask(client: ReturnType<typeof createClient>, model: string, task: DemoTask): Promise<void> {
  const facts = readFileSync(join(root, 'demo/data', task.data, 'test.jsonl'), 'utf8')
    .trim()
    .split('\n')
    .slice(0, 4);
  const route = task.kind === 'masked' ? '/v1/fill_mask' : '/v1/completions';
  console.log(`\n${colors.bold(`POST ${route}`)}  model ${model}`);
  for (const line of facts) {
    const { sub_label, obj_label } = JSON.parse(line) as { sub_label: string; obj_label: string };
    const answer =
      task.kind === 'masked'
        ? await client.fillMask(model, { sub_label })
        : await client.complete(model, { sub_label });
    const right = answer === obj_label;
    console.log(
      `  ${sub_label} -> ${answer} ${right ? colors.green('right') : colors.red(`wrong, it is ${obj_label}`)}`,
    );
  }
}

main().catch((error: unknown) => {
  console.error(colors.red(error instanceof Error ? error.message : String(error)));
  process.exitCode = 1;
});
