/** A job's record in Redis: how it is written as a hash and read back. */
import type { Redis } from 'ioredis';
import type { JobCheckpoint, JobEvent, JobSpec, JobState, JobStatus } from './contract.ts';
import type { Keys } from './keys.ts';

export interface JobRecord {
  spec: JobSpec;
  state: JobState;
  /** Id of the queue entry that may run it; any other is stale. */
  entry: string;
  /** When that entry was made, in ms. */
  queuedAt: number;
  /** An attempt broke off with its training child, so it shares none with other jobs; not written with the rest. */
  isAlone: boolean;
}

const fields = [
  'spec',
  'status',
  'attempt',
  'startedAt',
  'finishedAt',
  'progress',
  'result',
  'error',
  'entry',
  'queuedAt',
  'alone',
] as const;

/** Records in the order of `ids`, null for those Redis does not know. */
export async function readRecords(client: Redis, keys: Keys, ids: string[]): Promise<(JobRecord | null)[]> {
  if (ids.length === 0) return [];
  const pipeline = client.pipeline();
  for (const id of ids) pipeline.hmget(keys.job(id), ...fields);
  const replies = (await pipeline.exec()) ?? [];
  return replies.map(([error, values]) => {
    if (error !== null) throw error;
    return decodeRecord(values as (string | null)[]);
  });
}

function decodeRecord(values: (string | null)[]): JobRecord | null {
  const [spec, status, attempt, startedAt, finishedAt, progress, result, error, entry, queuedAt, alone] = values;
  if (spec == null) return null;
  return {
    spec: JSON.parse(spec) as JobSpec,
    state: {
      status: status as JobStatus,
      attempt: Number(attempt),
      startedAt: startedAt == null ? null : Number(startedAt),
      finishedAt: finishedAt == null ? null : Number(finishedAt),
      progress: parse(progress),
      result: parse(result),
      error: parse(error),
    },
    entry: entry ?? '',
    queuedAt: Number(queuedAt),
    isAlone: alone != null,
  };
}

function parse<T>(text: string | null | undefined): T | null {
  return text == null ? null : (JSON.parse(text) as T);
}

/** A whole record as field, value, …. */
export function encodeRecord({ spec, state, entry, queuedAt }: Omit<JobRecord, 'isAlone'>): (string | number)[] {
  return ['spec', JSON.stringify(spec), 'entry', entry, 'queuedAt', queuedAt, ...encodeState(state)];
}

/** A state as field, value, …; what is null has no field. */
export function encodeState(state: JobState): (string | number)[] {
  const { status, attempt, startedAt, finishedAt, progress, result, error } = state;
  const encoded: (string | number)[] = ['status', status, 'attempt', attempt];
  if (startedAt !== null) encoded.push('startedAt', startedAt);
  if (finishedAt !== null) encoded.push('finishedAt', finishedAt);
  if (progress !== null) encoded.push('progress', JSON.stringify(progress), 'topStep', progress.step);
  if (result !== null) encoded.push('result', JSON.stringify(result));
  if (error !== null) encoded.push('error', JSON.stringify(error));
  return encoded;
}

export function queuedState(attempt: number): JobState {
  return { status: 'queued', attempt, startedAt: null, finishedAt: null, progress: null, result: null, error: null };
}

/** An event before Redis gives it its id. */
export type NewEvent = Pick<JobEvent, 'level' | 'type' | 'message' | 'data'>;

export function encodeEvent({ level, type, message, data }: NewEvent): string {
  return JSON.stringify({ createdAt: unixSeconds(), level, type, message, data });
}

export function message(text: string, level: JobEvent['level'] = 'info', data: JobEvent['data'] = {}): NewEvent {
  return { level, type: 'message', message: text, data };
}

export function unixSeconds(): number {
  return Math.floor(Date.now() / 1000);
}

/** Newest first. */
export async function readCheckpoints(client: Redis, keys: Keys, id: string): Promise<JobCheckpoint[]> {
  const values = await client.hvals(keys.checkpoints(id));
  return values.map((value) => JSON.parse(value) as JobCheckpoint).sort((a, b) => b.step - a.step);
}
