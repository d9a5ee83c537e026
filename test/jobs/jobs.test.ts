import assert from 'node:assert/strict';
import fs from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, beforeEach, test } from 'node:test';
import { Redis } from 'ioredis';
import { PtunedError } from '../../src/errors.ts';
import { type Attempt, claimJob } from '../../src/jobs/attempts.ts';
import type { JobEvent } from '../../src/jobs/contract.ts';
import { createJobs, type Jobs } from '../../src/jobs/jobs.ts';
import { createJobStore, type JobStore } from '../../src/jobs/store.ts';
import { createLogger } from '../../src/logger.ts';
import { jobProgress, jobResult, jobSpec } from '../support/job-spec.ts';
import { startTestRedis, type TestRedis } from '../support/redis.ts';

const logger = createLogger('test', 'silent');
const forever = new AbortController().signal;
let redis: TestRedis;
let raw: Redis;
let directory: string;
let jobs: Jobs;
let store: JobStore;

before(async () => {
  redis = await startTestRedis();
  raw = new Redis(redis.url);
});

beforeEach(async () => {
  await shut();
  await raw.flushall();
  directory = await fs.mkdtemp(join(tmpdir(), 'ptuned-jobs-'));
  const options = { redisUrl: redis.url, dataDirectory: directory, logger };
  jobs = createJobs(options);
  store = createJobStore(options);
});

after(async () => {
  await shut();
  raw.disconnect();
  await redis.close();
});

async function shut(): Promise<void> {
  await jobs?.close();
  store?.close();
  if (directory !== undefined) await fs.rm(directory, { recursive: true, force: true });
}

/** Takes a job as a worker would when the queue hands it out. */
async function take(id: string): Promise<Attempt> {
  const { entry } = (await store.read(id))!;
  const claim = await claimJob(store, id, entry, forever);
  assert.equal(claim.kind, 'run');
  return (claim as { attempt: Attempt }).attempt;
}

async function queueLength(): Promise<number> {
  return (await store.queue.alive()).size;
}

function refusedWith(code: string, pattern = /./) {
  return (error: unknown) => {
    assert.ok(error instanceof PtunedError, String(error));
    assert.equal(error.code, code);
    assert.match(error.message, pattern);
    return true;
  };
}

test('a job is on disk and queued when it is accepted', async () => {
  const spec = jobSpec({ metadata: { a: '1' } });
  const { job, created } = await jobs.submit(spec, { bodyHash: 'b' });
  assert.equal(created, true);
  assert.equal(job.state.status, 'queued');
  assert.deepEqual(JSON.parse(await fs.readFile(join(directory, 'jobs', spec.id, 'job.json'), 'utf8')), spec);
  assert.deepEqual((await jobs.get(spec.id, 'local')).spec, spec);
  assert.equal(await queueLength(), 1);
  assert.deepEqual(await jobs.counts(), { waiting: 1, active: 0, delayed: 0, failed: 0 });
});

test('100 parallel posts with one key make one job; another body is a conflict; another owner has keys of its own', async () => {
  const posts = Array.from({ length: 100 }, () => jobs.submit(jobSpec(), { idempotencyKey: 'k', bodyHash: 'b' }));
  const answers = await Promise.all(posts);
  assert.equal(new Set(answers.map(({ job }) => job.spec.id)).size, 1);
  assert.equal(answers.filter(({ created }) => created).length, 1);
  assert.equal((await jobs.list('local', { limit: 100 })).data.length, 1);
  assert.equal(await queueLength(), 1);
  assert.equal((await fs.readdir(join(directory, 'jobs'))).length, 1);

  const other = jobs.submit(jobSpec(), { idempotencyKey: 'k', bodyHash: 'c' });
  await assert.rejects(other, refusedWith('conflict', /another request body/));
  const theirs = await jobs.submit(jobSpec({ owner: 'eve' }), { idempotencyKey: 'k', bodyHash: 'c' });
  assert.equal(theirs.created, true);
  const key = store.keys.idempotency('local', 'k');
  assert.ok((await raw.ttl(key)) > 24 * 3600);
});

test('the key of a request that died before its job was made is taken over', async () => {
  await jobs.reconcile();
  await raw.set(store.keys.idempotency('local', 'k'), 'ftjob-dead b');
  const { created, job } = await jobs.submit(jobSpec(), { idempotencyKey: 'k', bodyHash: 'b' });
  assert.equal(created, true);
  const again = await jobs.submit(jobSpec(), { idempotencyKey: 'k', bodyHash: 'b' });
  assert.equal(again.job.spec.id, job.spec.id);
});

test('after FLUSHALL no job, state or idempotency key is lost', async () => {
  const specs = Array.from({ length: 20 }, () => jobSpec());
  for (const spec of specs) await jobs.submit(spec, { idempotencyKey: spec.id, bodyHash: 'b' });
  const done = await take(specs[0]!.id);
  done.checkpoint({ model: 'ft:x:ckpt-step-7', step: 7, createdAt: 1, metrics: { p_at_1: 0.5 } });
  await done.succeed(jobResult());
  await jobs.cancel(specs[1]!.id, 'local');
  const running = await take(specs[2]!.id);
  running.progress(jobProgress(5));

  await raw.flushall();
  const listed = await jobs.list('local', { limit: 100 });
  assert.equal(listed.data.length, 20);
  assert.equal(await queueLength(), 18);
  const repeated = await jobs.submit(jobSpec(), { idempotencyKey: specs[5]!.id, bodyHash: 'b' });
  assert.equal(repeated.created, false);
  assert.equal(repeated.job.spec.id, specs[5]!.id);
  const first = await jobs.get(specs[0]!.id, 'local');
  assert.equal(first.state.status, 'succeeded');
  assert.deepEqual(first.state.result, jobResult());
  assert.equal((await jobs.checkpoints(specs[0]!.id))[0]!.step, 7);
  assert.equal((await jobs.get(specs[1]!.id, 'local')).state.status, 'cancelled');
  // Attempts go on counting, so the one that runs is still told from the next.
  const next = await take(specs[2]!.id);
  assert.equal(next.number, running.number + 1);
  assert.equal(await running.standing(), 'superseded');
  assert.deepEqual(await jobs.reconcile(), { adopted: 0, requeued: 0, removed: 0 });

  await raw.flushall();
  assert.equal((await jobs.get(specs[7]!.id, 'local')).spec.id, specs[7]!.id);
});

test('an entry that the queue lost is made again; a record without a job on disk is removed', async () => {
  const [lost, ghost] = [jobSpec(), jobSpec()];
  await jobs.submit(lost, { bodyHash: 'b' });
  await jobs.submit(ghost, { bodyHash: 'b' });
  await raw.del(...(await raw.keys('ptuned:queue:*')));
  assert.deepEqual(await jobs.reconcile(), { adopted: 0, requeued: 0, removed: 0 }, 'young entries are left alone');
  await raw.hset(store.keys.job(lost.id), 'queuedAt', Date.now() - 60_000);
  await fs.rm(join(directory, 'jobs', ghost.id), { recursive: true });
  const before = (await store.read(lost.id))!.entry;
  assert.deepEqual(await jobs.reconcile(), { adopted: 0, requeued: 1, removed: 1 });
  assert.equal(await queueLength(), 1);
  const stale = await claimJob(store, lost.id, before, forever);
  assert.deepEqual(stale, { kind: 'skip', reason: 'stale' });
  assert.equal((await take(lost.id)).number, 1);
  await assert.rejects(jobs.get(ghost.id, 'local'), refusedWith('job_not_found'));
});

test('writes of an older attempt change nothing', async () => {
  const spec = jobSpec();
  await jobs.submit(spec, { bodyHash: 'b' });
  const old = await take(spec.id);
  old.progress(jobProgress(10));
  const newer = await take(spec.id);
  old.progress(jobProgress(99));
  old.event({ level: 'info', type: 'message', message: 'from the dead', data: {} });
  old.checkpoint({ model: 'm', step: 99, createdAt: 1, metrics: {} });
  await old.fail({ code: 'internal', message: 'from the dead', param: null });
  await old.succeed(jobResult());
  assert.equal(await old.release('crash'), 'superseded');
  newer.progress(jobProgress(12));
  await newer.release('hand-back');
  const { state } = await jobs.get(spec.id, 'local');
  assert.equal(state.status, 'queued');
  assert.equal(state.attempt, 2);
  assert.equal(state.progress?.step, 12);
  assert.deepEqual(await jobs.checkpoints(spec.id), []);
  const { data } = await jobs.events(spec.id, { limit: 100 });
  assert.ok(!data.some(({ message }) => message === 'from the dead'));
});

test('steps told by an attempt are not told again by the next', async () => {
  const spec = jobSpec();
  await jobs.submit(spec, { bodyHash: 'b' });
  const told = (step: number): Omit<JobEvent, 'id' | 'createdAt'> => ({
    level: 'info',
    type: 'metrics',
    message: `step ${step}`,
    data: { step },
  });
  const first = await take(spec.id);
  first.event(told(10));
  first.event(told(10));
  first.event(told(20));
  await first.release('hand-back');
  const second = await take(spec.id);
  second.event(told(20));
  second.event(told(30));
  await second.release('hand-back');
  const { data } = await jobs.events(spec.id, { limit: 100 });
  const steps = data.filter(({ type }) => type === 'metrics').map(({ message }) => message);
  assert.deepEqual(steps, ['step 30', 'step 20', 'step 10', 'step 10']);
});

test('three crashes without progress end a job, ten with progress do not', async () => {
  const poison = jobSpec();
  await jobs.submit(poison, { bodyHash: 'b' });
  const standings = [];
  for (let crash = 0; crash < 3; crash++) standings.push(await (await take(poison.id)).release('crash'));
  assert.deepEqual(standings, ['queued', 'queued', 'poison']);

  const steady = jobSpec();
  await jobs.submit(steady, { bodyHash: 'b' });
  for (let crash = 1; crash <= 10; crash++) {
    const attempt = await take(steady.id);
    attempt.progress(jobProgress(crash));
    assert.equal(await attempt.release('crash'), 'queued');
  }
  const stuck = [];
  for (let crash = 0; crash < 3; crash++) {
    const attempt = await take(steady.id);
    attempt.progress(jobProgress(10));
    stuck.push(await attempt.release('crash'));
  }
  assert.deepEqual(stuck, ['queued', 'queued', 'poison']);
});

test('cancel: at once, once, and not after the end; only by the owner', async () => {
  const [queued, running, done] = [jobSpec(), jobSpec(), jobSpec()];
  for (const spec of [queued, running, done]) await jobs.submit(spec, { bodyHash: 'b' });
  await assert.rejects(jobs.cancel(queued.id, 'eve'), refusedWith('job_not_found'));
  assert.equal((await jobs.cancel(queued.id, 'local')).state.status, 'cancelled');
  assert.equal((await jobs.cancel(queued.id, 'local')).state.status, 'cancelled');
  const { entry } = (await store.read(queued.id))!;
  assert.deepEqual(await claimJob(store, queued.id, entry, forever), { kind: 'skip', reason: 'final' });

  const attempt = await take(running.id);
  const cancelled = await jobs.cancel(running.id, 'local');
  assert.equal(cancelled.state.status, 'cancelled');
  assert.ok(cancelled.state.finishedAt !== null);
  assert.equal(await attempt.standing(), 'final');
  await attempt.succeed(jobResult());
  assert.equal((await jobs.get(running.id, 'local')).state.status, 'cancelled');

  await (await take(done.id)).succeed(jobResult());
  await assert.rejects(jobs.cancel(done.id, 'local'), refusedWith('conflict', /succeeded/));
  await assert.rejects(jobs.pause(done.id, 'local'), refusedWith('conflict'));
});

test('pause and resume', async () => {
  const spec = jobSpec();
  await jobs.submit(spec, { bodyHash: 'b' });
  const first = (await store.read(spec.id))!.entry;
  assert.equal((await jobs.pause(spec.id, 'local')).state.status, 'paused');
  assert.deepEqual(await claimJob(store, spec.id, first, forever), { kind: 'skip', reason: 'paused' });
  const resumed = await Promise.all([jobs.resume(spec.id, 'local'), jobs.resume(spec.id, 'local')]);
  assert.deepEqual(
    resumed.map(({ state }) => state.status),
    ['queued', 'queued'],
  );
  assert.equal(await queueLength(), 2, 'the stale entry and one new');
  assert.deepEqual(await claimJob(store, spec.id, first, forever), { kind: 'skip', reason: 'stale' });

  const attempt = await take(spec.id);
  await jobs.pause(spec.id, 'local');
  attempt.progress(jobProgress(3));
  assert.equal(await attempt.standing(), 'paused');
  assert.equal(await attempt.release('hand-back'), 'paused');
  assert.equal((await jobs.get(spec.id, 'local')).state.progress?.step, 3);
});

test('lists: newest first, by owner and metadata, page by page', async () => {
  const specs = [];
  for (let index = 0; index < 7; index++) {
    const spec = jobSpec({ metadata: { even: String(index % 2 === 0) } });
    await jobs.submit(spec, { bodyHash: 'b' });
    specs.unshift(spec);
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
  await jobs.submit(jobSpec({ owner: 'eve' }), { bodyHash: 'b' });
  const ids = specs.map(({ id }) => id);
  const first = await jobs.list('local', { limit: 3 });
  assert.deepEqual(
    first.data.map(({ spec }) => spec.id),
    ids.slice(0, 3),
  );
  assert.equal(first.hasMore, true);
  const rest = await jobs.list('local', { limit: 4, after: ids[2] });
  assert.deepEqual(
    rest.data.map(({ spec }) => spec.id),
    ids.slice(3),
  );
  assert.equal(rest.hasMore, false);
  const even = await jobs.list('local', { limit: 10, metadata: { even: 'true' } });
  assert.equal(even.data.length, 4);
  await assert.rejects(jobs.list('local', { limit: 3, after: 'ftjob-none' }), refusedWith('invalid_request', /after/));
  await assert.rejects(jobs.get(ids[0]!, 'eve'), refusedWith('job_not_found'));
  await assert.rejects(jobs.get('../../etc/passwd', 'local'), refusedWith('job_not_found'));
});

test('events: pages newest first, a stream oldest first until the job ends', async () => {
  const spec = jobSpec();
  await jobs.submit(spec, { bodyHash: 'b' });
  const streamed: string[] = [];
  const reading = (async () => {
    for await (const event of jobs.subscribe(spec.id, undefined, forever)) streamed.push(event.message);
  })();
  const attempt = await take(spec.id);
  for (let step = 1; step <= 5; step++) {
    attempt.event({ level: 'info', type: 'metrics', message: `step ${step}`, data: { step } });
  }
  await attempt.succeed(jobResult());
  await reading;
  const expected = ['The job was accepted.', 'Training has started.'];
  expected.push(...[1, 2, 3, 4, 5].map((step) => `step ${step}`), 'The job has succeeded.');
  assert.deepEqual(streamed, expected);

  const page = await jobs.events(spec.id, { limit: 3 });
  assert.deepEqual(
    page.data.map(({ message }) => message),
    expected.toReversed().slice(0, 3),
  );
  assert.equal(page.hasMore, true);
  const older = await jobs.events(spec.id, { limit: 10, after: page.data[2]!.id });
  assert.deepEqual(
    older.data.map(({ message }) => message),
    expected.toReversed().slice(3),
  );
  assert.equal(older.hasMore, false);
  await assert.rejects(jobs.events(spec.id, { limit: 3, after: 'nonsense' }), refusedWith('invalid_request'));

  const tail: string[] = [];
  for await (const event of jobs.subscribe(spec.id, older.data[0]!.id, forever)) tail.push(event.message);
  assert.deepEqual(tail, expected.slice(5));
});

test('a stream ends when its reader goes', async () => {
  const spec = jobSpec();
  await jobs.submit(spec, { bodyHash: 'b' });
  const gone = new AbortController();
  const begun = Date.now();
  for await (const _event of jobs.subscribe(spec.id, undefined, gone.signal)) gone.abort();
  assert.ok(Date.now() - begun < 1000);
});

test('what a worker tells survives FLUSHALL in the middle', async () => {
  const spec = jobSpec();
  await jobs.submit(spec, { bodyHash: 'b' });
  const attempt = await take(spec.id);
  await raw.flushall();
  attempt.progress(jobProgress(40));
  await attempt.succeed(jobResult());
  const { state } = await jobs.get(spec.id, 'local');
  assert.equal(state.status, 'succeeded');
  assert.equal(state.progress?.step, 40);
});
