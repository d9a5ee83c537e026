/** The parts that the job store, its reconciler and the workers share. */
import type { Logger } from '../logger.ts';
import { type Connection, connect } from './connection.ts';
import type { JobSpec } from './contract.ts';
import { createJobFiles, type FinalRecord, type JobFiles } from './job-files.ts';
import { createKeys, type Keys } from './keys.ts';
import { createJobQueue, type JobQueue } from './queue.ts';
import {
  encodeEvent,
  encodeRecord,
  encodeState,
  type JobRecord,
  message,
  type NewEvent,
  readRecords,
} from './records.ts';
import { create, finish, runScript } from './scripts.ts';

export interface JobStore {
  readonly connection: Connection;
  readonly keys: Keys;
  readonly files: JobFiles;
  readonly queue: JobQueue;
  readonly logger: Logger;
  read(id: string): Promise<JobRecord | null>;
  /** Makes the record; 'taken' when another request holds the job's idempotency key. */
  create(record: JobRecord, createdAt: number, event: NewEvent): Promise<'created' | 'exists' | 'taken'>;
  /** Makes this the end of the job, on disk and then in Redis, unless it has one; returns the one it has. */
  finish(id: string, record: FinalRecord): Promise<FinalRecord>;
  /** Tells Redis the end that is on disk. */
  publishEnd(id: string, final: FinalRecord): Promise<void>;
  close(): void;
}

export interface JobStoreOptions {
  redisUrl: string;
  dataDirectory: string;
  logger: Logger;
  /** First part of every key in Redis. Default ptuned. */
  prefix?: string;
}

/** A key is honoured for at least a day. */
export const idempotencySeconds = 25 * 3600;

export function idempotencyValue(spec: JobSpec): string {
  return spec.idempotency === undefined ? '' : `${spec.id} ${spec.idempotency.bodyHash}`;
}

export function createJobStore(options: JobStoreOptions): JobStore {
  const { redisUrl, dataDirectory, logger, prefix = 'ptuned' } = options;
  const connection = connect(redisUrl, logger);
  const keys = createKeys(prefix);
  const files = createJobFiles(dataDirectory);

  const store: JobStore = {
    connection,
    keys,
    files,
    logger,
    queue: createJobQueue(connection, keys),
    read: async (id) => (await connection.call((client) => readRecords(client, keys, [id])))[0] ?? null,

    async create(record, createdAt, event) {
      const { id, owner, idempotency } = record.spec;
      const idempotencyKey = idempotency === undefined ? keys.known : keys.idempotency(owner, idempotency.key);
      // A key that was honoured for long enough does not come back with a job restored from disk.
      const secondsLeft = Math.ceil(idempotencySeconds - (Date.now() - createdAt) / 1000);
      const value = secondsLeft > 0 ? idempotencyValue(record.spec) : '';
      const heads = [id, Math.round(createdAt), keys.channel, encodeEvent(event), value, secondsLeft];
      const verdict = await connection.call((client) =>
        runScript(
          client,
          create,
          [keys.job(id), keys.open, keys.owner(owner), keys.events(id), idempotencyKey],
          [...heads, ...encodeRecord(record)],
        ),
      );
      return verdict as 'created' | 'exists' | 'taken';
    },

    async finish(id, record) {
      const final = await files.finish(id, record);
      await store.publishEnd(id, final);
      return final;
    },

    async publishEnd(id, { state, checkpoints }) {
      await connection.call(async (client) => {
        if (checkpoints.length > 0) {
          const pairs = checkpoints.flatMap((checkpoint) => [checkpoint.model, JSON.stringify(checkpoint)]);
          await client.hset(keys.checkpoints(id), ...pairs);
        }
        const event = encodeEvent(endMessage({ state, checkpoints, version: 1 }));
        await runScript(
          client,
          finish,
          [keys.job(id), keys.open, keys.events(id)],
          [id, keys.channel, event, ...encodeState(state)],
        );
      });
    },

    close: () => connection.close(),
  };
  return store;
}

/** The last event of a job. */
export function endMessage({ state }: FinalRecord): NewEvent {
  switch (state.status) {
    case 'succeeded':
      return message('The job has succeeded.');
    case 'cancelled':
      return message('The job was cancelled.');
    default: {
      const { code = 'internal', message: text = 'unknown' } = state.error ?? {};
      return message(`The job failed: ${text}`, 'error', { code });
    }
  }
}
