/** Names in Redis. */
import { createHash } from 'node:crypto';

export const queueName = 'tuning';

/** Everything of this service starts with `prefix`, so it can share a Redis. */
export function createKeys(prefix: string) {
  return {
    /** Prefix of BullMQ's own keys. */
    queuePrefix: `${prefix}:queue`,
    /** Hash: spec, state and bookkeeping of a job. */
    job: (id: string) => `${prefix}:job:${id}`,
    /** Stream of a job's events. */
    events: (id: string) => `${prefix}:events:${id}`,
    /** Hash from model id to a published checkpoint. */
    checkpoints: (id: string) => `${prefix}:checkpoints:${id}`,
    /** Sorted set of an owner's job ids by the time they were made. */
    owner: (owner: string) => `${prefix}:owner:${owner}`,
    /** Set of the jobs that are not final. */
    open: `${prefix}:open`,
    /** Exists while Redis knows every job on disk: gone after FLUSHALL. */
    known: `${prefix}:known`,
    /** Exists while one reconciliation goes over the disk. */
    scan: (run: string) => `${prefix}:scan:${run}`,
    /** "<job id> <body hash>" of the request that used this key first. */
    idempotency: (owner: string, key: string) =>
      `${prefix}:idempotency:${owner}:${createHash('sha256').update(key).digest('hex')}`,
    /** Channel that names each job that got an event. */
    channel: `${prefix}:told`,
  };
}

export type Keys = ReturnType<typeof createKeys>;
