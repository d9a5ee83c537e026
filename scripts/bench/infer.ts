/** The inference server under load: one tuned prompt against many different ones, and more than it can do. */
import { fork } from 'node:child_process';
import { Agent } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { sibling } from '../../workers/sibling.ts';
import type { ServerReady, ServerTask } from './infer-child.ts';
import { type BenchLm, importedLm } from './lms.ts';
import { closedLoop, type LoadSummary, openLoop, post, type Target } from './load.ts';
import { median, minimum } from './statistics.ts';
import { residentBytes } from './watch.ts';

export interface InferSettings {
  threads: number;
  /** Clients at a time, and seconds of each measurement. */
  clients: number;
  seconds: number;
  rounds: number;
  /** Times what the server can do, and for how long; null for none. */
  overload: { times: number; seconds: number } | null;
}

export interface InferResult {
  lm: string;
  prompts: number;
  single: LoadSummary[];
  mixed: LoadSummary[];
  /** Requests a second, mixed divided by single, pair by pair. */
  ratioMedian: number;
  ratioMin: number;
  overload: (LoadSummary & { rate: number; residentBytes: number[]; recoverySeconds: number }) | null;
}

const words = ['river', 'mountain', 'winter', 'engine', 'letter', 'garden', 'market', 'signal'];

/** Different from its first letters on: rows that begin alike share work, and only the prompt's own tokens shall be alike. */
function textOf(n: number): string {
  const digits = [...((n * 7919 + 104729) % 1_679_616).toString(36)];
  // The digit that changes with every number comes first.
  return `${digits.reverse().join('')} ${words[n % words.length]}`;
}

export async function measureInference(lm: BenchLm, prompts: number, settings: InferSettings): Promise<InferResult> {
  const server = await startServer({ manifest: await importedLm(lm), prompts, threads: settings.threads });
  try {
    const url = `${server.url}/v1/fill_mask`;
    const bodyFor = (model: string, n: number) => ({ model, inputs: { text: textOf(n) } });
    const one: Target = { url, body: (n) => bodyFor(server.prompts[0]!, n) };
    const many: Target = { url, body: (n) => bodyFor(server.prompts[n % prompts]!, n) };
    await closedLoop(many, settings.clients, settings.seconds / 2);
    const [single, mixed]: [LoadSummary[], LoadSummary[]] = [[], []];
    for (let round = 0; round < settings.rounds; round++) {
      single.push(await closedLoop(one, settings.clients, settings.seconds));
      mixed.push(await closedLoop(many, settings.clients, settings.seconds));
    }
    const ratios = mixed.map(({ perSecond }, i) => perSecond / single[i]!.perSecond);
    const capacity = median(mixed.map(({ perSecond }) => perSecond));
    const overload = settings.overload && (await overloaded(many, capacity, settings.overload, server.pid));
    return { lm: lm.name, prompts, single, mixed, ratioMedian: median(ratios), ratioMin: minimum(ratios), overload };
  } finally {
    server.stop();
  }
}

/** At most so many requests are open at a time: twice what the server lets wait. */
const mostOpen = 1024;

async function overloaded(
  target: Target,
  capacity: number,
  { times, seconds }: { times: number; seconds: number },
  pid: number,
) {
  const rate = times * capacity;
  const alone = await probe(target);
  const resident = [residentBytes(pid)];
  const watch = setInterval(() => resident.push(residentBytes(pid)), 1000);
  const { summary, drained } = await openLoop(target, rate, seconds, mostOpen);
  clearInterval(watch);
  const ended = performance.now();
  // Back to normal: a request alone is answered in what it took before, give or take.
  for (;;) {
    const { status, ms } = await probe(target);
    if (status === 200 && ms < 2 * alone.ms + 20) break;
    if (performance.now() - ended > 60_000) break;
    await sleep(100);
  }
  const recoverySeconds = (performance.now() - ended) / 1000;
  await drained;
  return { ...summary, rate, residentBytes: resident, recoverySeconds };
}

async function probe(target: Target) {
  const agent = new Agent();
  return post(agent, target, 0);
}

async function startServer(task: ServerTask): Promise<ServerReady & { pid: number; stop(): void }> {
  const child = fork(sibling(import.meta.url, './infer-child'), [], {
    stdio: ['ignore', 2, 2, 'ipc'],
    execArgv: process.execArgv,
  });
  const ready = await new Promise<ServerReady>((resolve, reject) => {
    child.once('message', (message) => resolve(message as ServerReady));
    child.once('exit', () => reject(new Error('the inference server ended before it was ready')));
    child.send(task, () => {});
  });
  return { ...ready, pid: child.pid!, stop: () => child.disconnect() };
}
