/** A connection to Redis that fails soon: for callers who have a client waiting. */
import { once } from 'node:events';
import { Redis, type RedisOptions } from 'ioredis';
import { PtunedError } from '../errors.ts';
import type { Logger } from '../logger.ts';

export interface Connection {
  readonly client: Redis;
  /** Runs Redis commands; throws `queue_unavailable` within 2.5 s when Redis is gone, hangs, or is full. */
  call<T>(work: (client: Redis) => Promise<T>): Promise<T>;
  close(): void;
}

const commandMilliseconds = 1900;
const readyMilliseconds = 400;

/** Replies that mean "not now" rather than "never". */
const passing = /^(OOM|LOADING|MISCONF|READONLY|MASTERDOWN|BUSY|CLUSTERDOWN|TRYAGAIN|NOAUTH|WRONGPASS|NOREPLICAS)\b/;

/** Connects in the background and for ever; commands are neither kept for later nor sent twice. */
export function connect(url: string, logger: Logger): Connection {
  const client = new Redis(url, {
    ...reconnection,
    enableOfflineQueue: false,
    autoResendUnfulfilledCommands: false,
    maxRetriesPerRequest: 0,
    commandTimeout: commandMilliseconds,
  });
  // Each call that waits for the connection listens to it.
  client.setMaxListeners(Number.POSITIVE_INFINITY);
  client.on('error', (error) => logger.debug({ err: error }, 'redis connection'));
  return {
    client,
    async call(work) {
      try {
        await whenReady(client);
        return await work(client);
      } catch (error) {
        throw isUnavailable(error) ? queueUnavailable(error) : error;
      }
    },
    close: () => client.disconnect(),
  };
}

/** Settings of every connection: try again soon, so that work goes on within seconds of Redis coming back. */
export const reconnection = {
  retryStrategy: (times: number) => Math.min(times * 100, 1000),
  connectTimeout: 2000,
} satisfies RedisOptions;

export function queueUnavailable(cause: unknown): PtunedError {
  return new PtunedError('queue_unavailable', 'Redis cannot be reached, so jobs can be neither read nor taken now.', {
    cause,
  });
}

async function whenReady(client: Redis): Promise<void> {
  if (client.status === 'ready') return;
  await once(client, 'ready', { signal: AbortSignal.timeout(readyMilliseconds) });
}

function isUnavailable(error: unknown): boolean {
  if (error instanceof PtunedError || !(error instanceof Error)) return false;
  return error.name !== 'ReplyError' || passing.test(error.message);
}
