/** Looks at a Redis that the user named: does it answer, and does it keep what it has acknowledged? */
import { setTimeout } from 'node:timers/promises';
import { Redis } from 'ioredis';
import { PtunedError } from '../errors.ts';
import type { Logger } from '../logger.ts';

/** What an accepted job relies on. With `everysec`, 860 of 91,428 acknowledged jobs were lost when Redis was killed. */
const policy = { appendonly: 'yes', appendfsync: 'always', 'maxmemory-policy': 'noeviction' } as const;
const leastVersion = [6, 2] as const;
/** Redis may be starting at the same time as we are. */
const patienceMilliseconds = 15_000;

/** Throws `queue_unavailable` when it does not answer, or is not safe and `isUnsafeAccepted` is false. */
export async function checkRedis(
  url: string,
  isUnsafeAccepted: boolean,
  logger: Logger,
  milliseconds = patienceMilliseconds,
): Promise<void> {
  const client = new Redis(url, {
    lazyConnect: true,
    retryStrategy: null,
    maxRetriesPerRequest: 0,
    connectTimeout: 3000,
    commandTimeout: 3000,
  });
  client.on('error', () => {});
  try {
    await connectPatiently(client, url, Date.now() + milliseconds);
    const version = /^redis_version:(\d+)\.(\d+)/m.exec(await client.info('server'));
    const [major, minor] = [Number(version?.[1] ?? 0), Number(version?.[2] ?? 0)];
    if (major < leastVersion[0] || (major === leastVersion[0] && minor < leastVersion[1])) {
      throw refuse(url, `is version ${major}.${minor}; accepted: ${leastVersion.join('.')} and later.`);
    }
    const complaint = await complainOfPolicy(client);
    if (complaint === null) return;
    if (!isUnsafeAccepted) {
      throw refuse(url, `${complaint} PTUNED_REDIS_UNSAFE=1 uses it as it is: accepted jobs may then be lost.`);
    }
    logger.warn({ redis: placeOf(url) }, `accepted jobs may be lost: this Redis ${complaint}`);
  } finally {
    client.disconnect();
  }
}

async function connectPatiently(client: Redis, url: string, end: number): Promise<void> {
  for (;;) {
    try {
      await client.connect();
      await client.ping();
      return;
    } catch (error) {
      client.disconnect();
      const reason = error instanceof Error ? error.message : String(error);
      if (Date.now() > end || /NOAUTH|WRONGPASS/.test(reason)) throw refuse(url, `does not answer: ${reason}`);
      await setTimeout(500);
    }
  }
}

async function complainOfPolicy(client: Redis): Promise<string | null> {
  const wrong: string[] = [];
  for (const [name, wanted] of Object.entries(policy)) {
    let found: string | undefined;
    try {
      const reply = (await client.config('GET', name)) as string[];
      found = reply[1];
    } catch (error) {
      return `does not tell its settings (${error instanceof Error ? error.message : error}), so what it keeps is unknown.`;
    }
    if (found !== wanted) wrong.push(`${name} "${found}" (accepted: "${wanted}")`);
  }
  return wrong.length === 0 ? null : `has ${wrong.join(', ')}.`;
}

function refuse(url: string, complaint: string): PtunedError {
  return new PtunedError('queue_unavailable', `The Redis of REDIS_URL (${placeOf(url)}) ${complaint}`, {
    param: 'REDIS_URL',
  });
}

/** Where it is, without its password. */
function placeOf(url: string): string {
  try {
    const { host, pathname } = new URL(url);
    return `${host}${pathname}`;
  } catch {
    return url.startsWith('/') ? url : 'not a URL';
  }
}
