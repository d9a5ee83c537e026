/** Events of a job: pages of them, and as they happen. */
import { EventEmitter } from 'node:events';
import { setTimeout } from 'node:timers/promises';
import { Redis } from 'ioredis';
import { PtunedError } from '../errors.ts';
import type { Logger } from '../logger.ts';
import { type Connection, reconnection } from './connection.ts';
import { finalStatuses, type JobEvent, type JobStatus } from './contract.ts';
import type { JobPage, PageRequest } from './jobs.ts';
import type { Keys } from './keys.ts';

export interface EventStream {
  page(id: string, request: PageRequest): Promise<JobPage<JobEvent>>;
  subscribe(id: string, afterEventId: string | undefined, signal: AbortSignal): AsyncIterable<JobEvent>;
  close(): void;
}

/** A notice of an event may be lost; after this time we look ourselves. */
const patienceMilliseconds = 2000;
/** A subscriber outlives a Redis that is gone for so long. */
const outageMilliseconds = 60_000;
const batch = 200;

export function createEventStream(options: {
  connection: Connection;
  url: string;
  keys: Keys;
  logger: Logger;
}): EventStream {
  const { connection, keys } = options;
  const notices = createNotices(options);

  async function readAfter(id: string, position: string): Promise<{ events: JobEvent[]; isOver: boolean }> {
    return connection.call(async (client) => {
      // The status first: events told before a job became final are in the stream by then.
      const status = (await client.hget(keys.job(id), 'status')) as JobStatus | null;
      const entries = await client.xrange(keys.events(id), `(${position}`, '+', 'COUNT', batch);
      const isFinal = status === null || finalStatuses.includes(status);
      return { events: entries.map(decodeEntry), isOver: isFinal && entries.length < batch };
    });
  }

  return {
    page: (id, { after, limit }) =>
      connection.call(async (client) => {
        const end = after === undefined ? '+' : `(${toPosition(after)}`;
        const entries = await client.xrevrange(keys.events(id), end, '-', 'COUNT', limit + 1);
        return { data: entries.slice(0, limit).map(decodeEntry), hasMore: entries.length > limit };
      }),

    async *subscribe(id, afterEventId, signal) {
      let position = afterEventId === undefined ? '0-0' : toPosition(afterEventId);
      let lastSuccess = Date.now();
      const notice = notices.watch(id);
      try {
        while (!signal.aborted) {
          try {
            const { events, isOver } = await readAfter(id, position);
            lastSuccess = Date.now();
            for (const event of events) {
              yield event;
              position = toPosition(event.id);
            }
            if (isOver) return;
            if (events.length > 0) continue;
          } catch (error) {
            const isPassing = error instanceof PtunedError && error.code === 'queue_unavailable';
            if (!isPassing || Date.now() - lastSuccess > outageMilliseconds) throw error;
          }
          await notice.next(signal);
        }
      } finally {
        notice.stop();
      }
    },

    close: () => notices.close(),
  };
}

interface Notice {
  /** Resolves when there was one since the last call, after a while anyway, or when `signal` aborts. */
  next(signal: AbortSignal): Promise<void>;
  stop(): void;
}

/** One connection listens for all subscribers of the process; it is made when the first comes. */
function createNotices({ url, keys, logger }: { url: string; keys: Keys; logger: Logger }) {
  const told = new EventEmitter().setMaxListeners(0);
  let client: Redis | null = null;

  function listen(): void {
    if (client !== null) return;
    client = new Redis(url, { ...reconnection, maxRetriesPerRequest: null });
    client.on('error', (error) => logger.debug({ err: error }, 'redis subscription'));
    client.on('message', (_channel, id) => told.emit(id));
    client.subscribe(keys.channel).catch((error) => logger.debug({ err: error }, 'redis subscription'));
  }

  return {
    watch(id: string): Notice {
      listen();
      let isTold = false;
      let wake = () => {};
      const listener = () => {
        isTold = true;
        wake();
      };
      told.on(id, listener);
      return {
        async next(signal) {
          if (!isTold && !signal.aborted) {
            const woken = new Promise<void>((resolve) => {
              wake = resolve;
            });
            await Promise.race([woken, setTimeout(patienceMilliseconds, undefined, { signal }).catch(() => {})]);
          }
          isTold = false;
        },
        stop: () => told.off(id, listener),
      };
    },
    close: () => client?.disconnect(),
  };
}

const idPrefix = 'ftevent-';

function decodeEntry([position, fields]: [string, string[]]): JobEvent {
  const event = JSON.parse(fields[1]!) as Omit<JobEvent, 'id'>;
  return { id: `${idPrefix}${position}`, ...event };
}

function toPosition(eventId: string): string {
  const position = eventId.startsWith(idPrefix) ? eventId.slice(idPrefix.length) : '';
  if (/^\d{1,15}-\d{1,9}$/.test(position)) return position;
  throw new PtunedError('invalid_request', `after is "${eventId}"; accepted: the id of an event of this job.`, {
    param: 'after',
  });
}
