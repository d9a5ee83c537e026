/** The Redis of this service: the one the user names, or one of our own; no other is ever touched. */
import fs from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import type { Config } from '../config.ts';
import type { Logger } from '../logger.ts';
import { findRedisServer } from './binary.ts';
import { checkRedis } from './check.ts';
import { takeLock } from './lock.ts';
import { startServer } from './server.ts';

export interface OpenRedis {
  /** For ioredis: the user's REDIS_URL, or the path of our server's socket. */
  url: string;
  close(): Promise<void>;
}

export type RedisConfig = Pick<Config, 'redisUrl' | 'redisUnsafe' | 'dataDirectory' | 'cacheDirectory'>;

/**
 * Checks REDIS_URL, or starts a redis-server on a private socket with its data in the data directory. Throws
 * `queue_unavailable` when there is none to be had, `conflict` when the data directory is in use.
 */
export async function openRedis(config: RedisConfig, logger: Logger): Promise<OpenRedis> {
  if (config.redisUrl !== null) {
    await checkRedis(config.redisUrl, config.redisUnsafe, logger);
    return { url: config.redisUrl, close: async () => {} };
  }
  const binary = await findRedisServer(config.cacheDirectory, logger);
  const directory = join(config.dataDirectory, 'redis');
  await fs.mkdir(directory, { recursive: true, mode: 0o700 });
  const lock = await takeLock(join(directory, 'lock'));
  try {
    const socket = await chooseSocket(directory);
    const server = await startServer({ binary, directory, socket, logger });
    logger.info({ redis: socket, source: binary.source }, 'redis-server started');
    return {
      url: socket,
      async close() {
        await server.close();
        await lock.release();
        if (dirname(socket) !== directory) await fs.rm(dirname(socket), { recursive: true, force: true });
      },
    };
  } catch (error) {
    await lock.release();
    throw error;
  }
}

/** The kernel takes about 107 bytes; "?" begins options in the URL of a socket. */
const longestSocket = 100;

async function chooseSocket(directory: string): Promise<string> {
  const near = join(directory, 'redis.sock');
  if (Buffer.byteLength(near) <= longestSocket && !near.includes('?')) return near;
  return join(await fs.mkdtemp(join(tmpdir(), 'ptuned-')), 'redis.sock');
}
