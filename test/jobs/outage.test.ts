import assert from 'node:assert/strict';
import fs from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout } from 'node:timers/promises';
import { Redis } from 'ioredis';
import { readConfig } from '../../src/config.ts';
import { PtunedError } from '../../src/errors.ts';
import { createJobs, type Jobs } from '../../src/jobs/jobs.ts';
import { createLogger } from '../../src/logger.ts';
import { openRedis } from '../../src/redis/launch.ts';
import { jobSpec } from '../support/job-spec.ts';

const logger = createLogger('test', 'silent');

/** A Redis process of its own, which these tests stop and kill. */
async function withRedis(work: (context: { jobs: Jobs; pid: () => Promise<number>; data: string }) => Promise<void>) {
  const data = await fs.mkdtemp(join(tmpdir(), 'ptuned-outage-'));
  const redis = await openRedis({ ...readConfig({ PTUNED_DATA: data }), redisUrl: null }, logger);
  const raw = new Redis(redis.url, { retryStrategy: () => 50 });
  raw.on('error', () => {});
  const jobs = createJobs({ redisUrl: redis.url, dataDirectory: data, logger });
  const pid = async () => Number(/process_id:(\d+)/.exec(await raw.info('server'))![1]);
  try {
    await work({ jobs, pid, data });
  } finally {
    await jobs.close();
    raw.disconnect();
    await redis.close();
    await fs.rm(data, { recursive: true, force: true });
  }
}

async function failsWithin(milliseconds: number, work: () => Promise<unknown>): Promise<void> {
  const begun = Date.now();
  await assert.rejects(work, (error: unknown) => error instanceof PtunedError && error.code === 'queue_unavailable');
  const took = Date.now() - begun;
  assert.ok(took < milliseconds, `took ${took} ms`);
}

test('while Redis hangs every call fails within 2.5 s, and nothing refused is run later', async () => {
  await withRedis(async ({ jobs, pid, data }) => {
    await jobs.submit(jobSpec({ id: 'ftjob-before' }), { bodyHash: 'b' });
    const server = await pid();
    process.kill(server, 'SIGSTOP');
    try {
      await Promise.all([
        failsWithin(2500, () => jobs.ping()),
        failsWithin(2500, () => jobs.get('ftjob-before', 'local')),
        failsWithin(2500, () => jobs.list('local', { limit: 3 })),
        failsWithin(2500, () => jobs.submit(jobSpec({ id: 'ftjob-plain' }), { bodyHash: 'b' })),
        failsWithin(2500, () => jobs.submit(jobSpec(), { bodyHash: 'b', idempotencyKey: 'k' })),
        failsWithin(2500, () => jobs.cancel('ftjob-before', 'local')),
        failsWithin(2500, () => jobs.counts()),
      ]);
    } finally {
      process.kill(server, 'SIGCONT');
    }
    await jobs.ping();
    assert.deepEqual(await fs.readdir(join(data, 'jobs')), ['ftjob-before']);
    // The commands that were given up have landed by now; the record without a job on disk goes.
    await jobs.reconcile();
    const { data: listed } = await jobs.list('local', { limit: 10 });
    assert.deepEqual(
      listed.map(({ spec }) => spec.id),
      ['ftjob-before'],
    );
    const { created } = await jobs.submit(jobSpec(), { bodyHash: 'b', idempotencyKey: 'k' });
    assert.equal(created, true);
  });
});

test('acknowledged jobs survive a Redis that is killed under load again and again', async () => {
  await withRedis(async ({ jobs, pid }) => {
    const accepted: string[] = [];
    let isOver = false;
    const client = async () => {
      while (!isOver) {
        const spec = jobSpec();
        try {
          await jobs.submit(spec, { bodyHash: 'b' });
          accepted.push(spec.id);
        } catch (error) {
          assert.ok(error instanceof PtunedError && error.code === 'queue_unavailable', String(error));
          await setTimeout(20);
        }
      }
    };
    const clients = Array.from({ length: 8 }, client);
    for (let kill = 0; kill < 5; kill++) {
      await setTimeout(300);
      process.kill(await pid(), 'SIGKILL');
      const died = Date.now();
      for (let isBack = false; !isBack; )
        isBack = await jobs.ping().then(
          () => true,
          () => false,
        );
      assert.ok(Date.now() - died < 5000, 'back within 5 s');
    }
    isOver = true;
    await Promise.all(clients);
    assert.ok(accepted.length > 50, `${accepted.length} accepted`);
    for (const id of accepted) assert.equal((await jobs.get(id, 'local')).state.status, 'queued');
    const { waiting } = await jobs.counts();
    assert.ok(waiting >= accepted.length, `${waiting} of ${accepted.length} are queued`);
  });
});
