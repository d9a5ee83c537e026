/** Finds a redis-server that runs: from PATH, or Debian's package unpacked into a cache folder. */
import { join } from 'node:path';
import { PtunedError } from '../errors.ts';
import type { Logger } from '../logger.ts';
import { fetchDebianRedis, unpackedBinary } from './debian.ts';
import { run } from './run.ts';

export interface RedisBinary {
  path: string;
  /** What its environment needs besides: where the unpacked libraries are. */
  env: Record<string, string>;
  /** In words, for the log. */
  source: string;
}

/** Throws `queue_unavailable` naming the ways out when there is none and none can be had. */
export async function findRedisServer(cacheDirectory: string, logger: Logger): Promise<RedisBinary> {
  const installed = { path: 'redis-server', env: {}, source: 'redis-server from PATH' };
  if (await doesRun(installed)) return installed;
  const folder = join(cacheDirectory, `redis-debian-${process.arch}`);
  const cached = await unpackedBinary(folder);
  if (cached !== null && (await doesRun(cached))) return cached;

  logger.info({ folder }, 'no redis-server in PATH; fetching Debian’s package (nothing is installed)');
  const fetched = await fetchDebianRedis(folder);
  if (typeof fetched === 'string') throw notFound(fetched);
  if (!(await doesRun(fetched))) throw notFound(`the redis-server in ${folder} does not run`);
  return fetched;
}

async function doesRun({ path, env }: RedisBinary): Promise<boolean> {
  const { code, stdout } = await run(path, ['--version'], { env, milliseconds: 10_000 });
  return code === 0 && stdout.startsWith('Redis server');
}

function notFound(attempt: string): PtunedError {
  return new PtunedError(
    'queue_unavailable',
    'There is no Redis to keep jobs in. Three ways out: set REDIS_URL to a Redis you have; or install redis-server ' +
      `so that it is in PATH; or run where apt-get can download Debian’s package (tried: ${attempt}).`,
    { param: 'REDIS_URL' },
  );
}
