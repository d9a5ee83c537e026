import assert from 'node:assert/strict';
import { type ChildProcess, execFileSync, fork } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import { setTimeout } from 'node:timers/promises';
import { Redis } from 'ioredis';
import { readConfig } from '../../src/config.ts';
import { PtunedError } from '../../src/errors.ts';
import { createLogger } from '../../src/logger.ts';
import { checkRedis } from '../../src/redis/check.ts';
import { type OpenRedis, openRedis } from '../../src/redis/launch.ts';

const logger = createLogger('test', 'silent');
const owner = new URL('../fixtures/redis-owner.ts', import.meta.url);
let directory: string;
let cleanups: (() => Promise<unknown> | unknown)[];

beforeEach(async () => {
  directory = await fs.mkdtemp(join(tmpdir(), 'ptuned-launch-'));
  cleanups = [];
});

afterEach(async () => {
  for (const cleanup of cleanups.reverse()) await cleanup();
  await fs.rm(directory, { recursive: true, force: true });
});

async function open(changes: { cacheDirectory?: string } = {}): Promise<OpenRedis> {
  const config = { ...readConfig({ PTUNED_DATA: directory }), redisUrl: null, ...changes };
  const redis = await openRedis(config, logger);
  cleanups.push(() => redis.close());
  return redis;
}

function client(url: string): Redis {
  const made = new Redis(url, { retryStrategy: null, maxRetriesPerRequest: 0 });
  made.on('error', () => {});
  cleanups.push(() => made.disconnect());
  return made;
}

async function isServing(url: string): Promise<boolean> {
  const probe = new Redis(url, { lazyConnect: true, retryStrategy: null, maxRetriesPerRequest: 0 });
  probe.on('error', () => {});
  try {
    await probe.connect();
    return (await probe.ping()) === 'PONG';
  } catch {
    return false;
  } finally {
    probe.disconnect();
  }
}

async function eventually(what: string, holds: () => Promise<boolean>, milliseconds = 8000): Promise<void> {
  for (const end = Date.now() + milliseconds; !(await holds()); await setTimeout(50)) {
    assert.ok(Date.now() < end, `not so after ${milliseconds} ms: ${what}`);
  }
}

async function forkOwner(detached: boolean): Promise<{ child: ChildProcess; url: string }> {
  const child = fork(owner, [directory], { detached, stdio: ['ignore', 'ignore', 'inherit', 'ipc'] });
  cleanups.push(() => child.kill('SIGKILL'));
  const [url] = (await once(child, 'message')) as [string];
  return { child, url };
}

test('keeps what it acknowledges: settings, and data over a restart', async () => {
  const first = await open();
  const redis = client(first.url);
  for (const [name, value] of [
    ['appendonly', 'yes'],
    ['appendfsync', 'always'],
    ['maxmemory-policy', 'noeviction'],
    ['port', '0'],
  ]) {
    assert.deepEqual(await redis.config('GET', name!), [name, value]);
  }
  await redis.set('kept', 'yes');
  await first.close();
  assert.equal(await isServing(first.url), false);

  const second = await open();
  assert.equal(await client(second.url).get('kept'), 'yes');
});

test('refuses a data directory that a living process uses, and takes it over from a dead one', async () => {
  await open();
  await assert.rejects(open(), (error: PtunedError) => {
    assert.equal(error.code, 'conflict');
    assert.match(error.message, new RegExp(`process ${process.pid} `));
    assert.match(error.message, /PTUNED_DATA/);
    return true;
  });
  await cleanups.pop()!();

  const holder = { pid: 999_999_999, host: (await import('node:os')).hostname(), began: '1' };
  await fs.writeFile(join(directory, 'redis', 'lock'), JSON.stringify(holder));
  const again = await open();
  assert.equal(await isServing(again.url), true);
});

test('ends when its owner is killed, and the next owner starts at once on the same data', async () => {
  const { child, url } = await forkOwner(false);
  await client(url).set('kept', 'yes');
  child.kill('SIGKILL');
  const next = await open();
  assert.equal(await client(next.url).get('kept'), 'yes');
  await next.close();
  await eventually('no server is left', async () => !(await isServing(url)));
});

test('does not end by a ctrl-C that its owner sits out', async () => {
  const { child, url } = await forkOwner(true);
  process.kill(-child.pid!, 'SIGINT');
  await setTimeout(300);
  assert.equal(await isServing(url), true);
  assert.equal(child.exitCode, null);
  child.kill('SIGKILL');
  await eventually('the server has ended', async () => !(await isServing(url)));
});

test('is started again when it dies, with its data', async () => {
  const { url } = await open();
  const redis = client(url);
  await redis.set('kept', 'yes');
  const pid = Number(/process_id:(\d+)/.exec(await redis.info('server'))?.[1]);
  process.kill(pid, 'SIGKILL');
  await eventually('the server has gone', async () => redis.status === 'end');
  await eventually('the server is back', () => isServing(url));
  assert.equal(await client(url).get('kept'), 'yes');
});

test('a Redis of the user: refused when it may lose jobs, unless told', async () => {
  const { url } = await open();
  await checkRedis(url, false, logger);
  const redis = client(url);
  await redis.config('SET', 'appendfsync', 'everysec');
  await redis.config('SET', 'maxmemory-policy', 'allkeys-lru');
  await assert.rejects(checkRedis(url, false, logger), (error: PtunedError) => {
    assert.equal(error.code, 'queue_unavailable');
    assert.match(error.message, /appendfsync "everysec" \(accepted: "always"\)/);
    assert.match(error.message, /maxmemory-policy "allkeys-lru"/);
    assert.match(error.message, /PTUNED_REDIS_UNSAFE=1/);
    return true;
  });
  await checkRedis(url, true, logger);
  const gone = 'redis://:secret@127.0.0.1:1/0';
  await assert.rejects(checkRedis(gone, false, logger, 0), (error: PtunedError) => {
    assert.match(error.message, /127\.0\.0\.1:1\/0\) does not answer/);
    assert.doesNotMatch(error.message, /secret/);
    return true;
  });
});

/** Runs with a PATH that holds these programs alone. */
async function withPath<T>(programs: string[], work: () => Promise<T>): Promise<T> {
  const before = process.env.PATH;
  const folder = join(directory, 'bin');
  await fs.mkdir(folder);
  for (const name of programs) {
    const path = execFileSync('sh', ['-c', `command -v ${name}`], { encoding: 'utf8' }).trim();
    await fs.symlink(path, join(folder, name));
  }
  process.env.PATH = folder;
  try {
    return await work();
  } finally {
    process.env.PATH = before;
  }
}

test('without redis-server and apt-get the error names the three ways out', async () => {
  const error = await withPath(['sh'], () => open({ cacheDirectory: join(directory, 'cache') }).catch((e) => e));
  assert.ok(error instanceof PtunedError);
  assert.equal(error.code, 'queue_unavailable');
  for (const way of [/REDIS_URL/, /install redis-server/, /apt-get/]) assert.match(error.message, way);
});

const isAptWorking = (() => {
  try {
    const uris = execFileSync('apt-get', ['download', '--print-uris', 'redis-tools'], {
      encoding: 'utf8',
      stdio: 'pipe',
    });
    const url = /'([^']+)'/.exec(uris)?.[1];
    return url !== undefined;
  } catch {
    return false;
  }
})();

test('without redis-server in PATH Debian’s package is unpacked into the cache and used', {
  skip: isAptWorking ? false : 'apt-get has no package lists here',
  timeout: 240_000,
}, async () => {
  const cacheDirectory = join(directory, 'cache');
  const programs = ['sh', 'apt-get', 'apt-cache', 'dpkg', 'dpkg-deb', 'ldd', 'tar'];
  const redis = await withPath(programs, () => open({ cacheDirectory }));
  const info = await client(redis.url).info('server');
  assert.match(info, new RegExp(`executable:.*${cacheDirectory}/redis-debian-`));
  await redis.close();

  // The second time the cache is enough.
  await fs.rm(join(directory, 'bin'), { recursive: true });
  const again = await withPath(['sh'], () => open({ cacheDirectory }));
  assert.equal(await isServing(again.url), true);
});
