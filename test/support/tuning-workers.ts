/** Tuning workers with a scripted child (test/fixtures/scripted-child.ts) on a Redis and a data directory of their own. */
import assert from 'node:assert/strict';
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, afterEach, before, beforeEach } from 'node:test';
import { setTimeout } from 'node:timers/promises';
import { Redis } from 'ioredis';
import type { JobSpec, JobState, JobStatus } from '../../src/jobs/contract.ts';
import { createJobs, type Jobs } from '../../src/jobs/jobs.ts';
import { createLogger } from '../../src/logger.ts';
import type { ModelManifest } from '../../src/models/manifest.ts';
import { createModelRegistry } from '../../src/models/registry.ts';
import { jobSpec, trainingFile } from './job-spec.ts';
import { startTestRedis, type TestRedis } from './redis.ts';

const logger = createLogger('test', 'silent');
const script = new URL('../fixtures/scripted-tuning.ts', import.meta.url);
/** Shorter than in production, so that a dead worker's job starts elsewhere within 3 s. */
export const brisk = { lockDuration: 1500, stalledInterval: 500 };

export interface Harness {
  jobs: Jobs;
  raw: Redis;
  data: string;
  workers: ChildProcess[];
  startWorker(settings?: object, environment?: Record<string, string>): Promise<ChildProcess>;
  /** Submits a job whose metadata say what the child does; returns its id. */
  submit(metadata: Record<string, string | number>, changes?: Partial<JobSpec>): Promise<string>;
  state(id: string): Promise<JobState>;
  reached(id: string, status: JobStatus, milliseconds?: number): Promise<JobState>;
  reachedStep(id: string, step: number): Promise<void>;
  /** Every step the children of a job made. */
  steps(id: string): Promise<{ attempt: number; step: number }[]>;
  /** Process ids of all training children so far. */
  childPids(): Promise<number[]>;
}

/** Registers the hooks of node:test; what it returns is filled before each test. */
export function tuningWorkers(): Harness {
  let redis: TestRedis;
  const harness = { workers: [] as ChildProcess[] } as Harness;

  before(async () => {
    redis = await startTestRedis();
    harness.raw = new Redis(redis.url);
  });

  beforeEach(async () => {
    await harness.raw.flushall();
    harness.data = await prepareData();
    harness.workers = [];
    harness.jobs = createJobs({ redisUrl: redis.url, dataDirectory: harness.data, logger });
  });

  afterEach(async () => {
    for (const worker of harness.workers) {
      worker.kill('SIGCONT');
      worker.kill('SIGKILL');
    }
    await harness.jobs.close();
    for (const pid of await harness.childPids()) await eventually(`child ${pid} ended`, async () => !isAlive(pid));
    await fs.rm(harness.data, { recursive: true, force: true });
  });

  after(async () => {
    harness.raw.disconnect();
    await redis.close();
  });

  return Object.assign(
    harness,
    actions(harness, () => redis.url),
  );
}

function actions(harness: Harness, redisUrl: () => string): Omit<Harness, 'jobs' | 'raw' | 'data' | 'workers'> {
  const read = (id: string, name: string) =>
    fs.readFile(join(harness.data, 'jobs', id, name), 'utf8').then(
      (text) => text.trim().split('\n').filter(Boolean),
      () => [],
    );
  const state = async (id: string) => (await harness.jobs.get(id, 'local')).state;
  return {
    state,
    async startWorker(settings = brisk, environment = {}) {
      const env = { ...process.env, REDIS_URL: redisUrl(), PTUNED_DATA: harness.data, PTUNED_LOG_LEVEL: 'fatal' };
      const worker = fork(script, [JSON.stringify(settings)], { env: { ...env, ...environment } });
      harness.workers.push(worker);
      const [message] = await once(worker, 'message');
      assert.equal(message.type, 'ready');
      return worker;
    },
    async submit(metadata, changes = {}) {
      const texts = Object.entries(metadata).map(([name, value]) => [name, String(value)]);
      const spec = jobSpec({ metadata: Object.fromEntries(texts), ...changes });
      await harness.jobs.submit(spec, { bodyHash: 'b' });
      return spec.id;
    },
    async reached(id, status, milliseconds) {
      await eventually(`${id} is ${status}`, async () => (await state(id)).status === status, milliseconds);
      return state(id);
    },
    reachedStep: (id, step) => eventually(`step ${step}`, async () => ((await state(id)).progress?.step ?? 0) >= step),
    async steps(id) {
      return (await read(id, 'steps')).map((line) => {
        const [attempt, step] = line.split(':').map(Number) as [number, number];
        return { attempt, step };
      });
    },
    async childPids() {
      const ids = await fs.readdir(join(harness.data, 'jobs')).catch(() => []);
      return (await Promise.all(ids.map((id) => read(id, 'pids')))).flat().map(Number);
    },
  };
}

/** A data directory with the model and the file that `jobSpec` names, and another model. */
async function prepareData(): Promise<string> {
  const data = await fs.mkdtemp(join(tmpdir(), 'ptuned-worker-'));
  const file = join(data, 'files', trainingFile);
  await fs.mkdir(file, { recursive: true });
  await fs.writeFile(join(file, 'content'), '{}\n');
  for (const id of ['demo-masked', 'demo-causal']) {
    await createModelRegistry(data).put({ id, hash: `hash-of-${id}` } as ModelManifest);
  }
  return data;
}

export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

export async function eventually(what: string, holds: () => Promise<boolean>, milliseconds = 10_000): Promise<void> {
  for (const end = Date.now() + milliseconds; !(await holds()); await setTimeout(25)) {
    assert.ok(Date.now() < end, `not so after ${milliseconds} ms: ${what}`);
  }
}
