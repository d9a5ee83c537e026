/** A Redis for tests: testcontainers where a Docker engine answers and has the image, our own launcher elsewhere. */
import { execFile } from 'node:child_process';
import fs from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { readConfig } from '../../src/config.ts';
import { createLogger } from '../../src/logger.ts';
import { openRedis } from '../../src/redis/launch.ts';

export interface TestRedis {
  url: string;
  /** In words. */
  source: string;
  /** Null when it runs in a container. */
  directory: string | null;
  close(): Promise<void>;
}

const image = 'redis:7';
const safe = ['--appendonly', 'yes', '--appendfsync', 'always', '--maxmemory-policy', 'noeviction', '--save', ''];

/** An empty Redis with the settings of production; says once in a process which one it is. */
export async function startTestRedis(): Promise<TestRedis> {
  const redis = (await hasImage()) ? await startContainer().catch(startOwn) : await startOwn();
  say(redis.source);
  return redis;
}

let isSaid = false;
function say(source: string): void {
  if (!isSaid) process.stderr.write(`# redis for tests: ${source}\n`);
  isSaid = true;
}

/** Never pulls: the image must be there. */
async function hasImage(): Promise<boolean> {
  try {
    await promisify(execFile)('docker', ['image', 'inspect', image], { timeout: 5000 });
    return true;
  } catch {
    return false;
  }
}

async function startContainer(): Promise<TestRedis> {
  // Its reaper is another image, which may not be there; we stop what we start.
  process.env.TESTCONTAINERS_RYUK_DISABLED = 'true';
  const { GenericContainer } = await import('testcontainers');
  const container = await new GenericContainer(image)
    .withExposedPorts(6379)
    .withCommand(['redis-server', ...safe])
    .start();
  return {
    url: `redis://${container.getHost()}:${container.getMappedPort(6379)}`,
    source: `testcontainers, ${image}`,
    directory: null,
    close: async () => void (await container.stop()),
  };
}

async function startOwn(): Promise<TestRedis> {
  const directory = await fs.mkdtemp(join(tmpdir(), 'ptuned-test-redis-'));
  const config = { ...readConfig({ PTUNED_DATA: directory }), redisUrl: null };
  const redis = await openRedis(config, createLogger('test-redis', 'error'));
  return {
    url: redis.url,
    source: 'our own redis-server (no Docker engine with the image answers)',
    directory,
    async close() {
      await redis.close();
      await fs.rm(directory, { recursive: true, force: true });
    },
  };
}
