/**
 * What survives the loss of Redis, one folder a job: job.json (the accepted job), attempt (the newest one),
 * result.json (its end). Whoever writes result.json first decides how the job ended.
 */
import { randomUUID } from 'node:crypto';
import fs from 'node:fs/promises';
import { join } from 'node:path';
import {
  orNull,
  readBounded,
  sweep,
  syncDirectory,
  systemCode,
  temporaryPrefix,
  writeDurably,
} from '../artifacts/disk.ts';
import type { JobCheckpoint, JobSpec, JobState } from './contract.ts';

/** The end of a job. */
export interface FinalRecord {
  version: 1;
  state: JobState;
  checkpoints: JobCheckpoint[];
}

export interface JobFiles {
  /** <data>/jobs/<id> */
  directory(id: string): string;
  /** Resolves when the job is on the disk itself. */
  create(spec: JobSpec): Promise<void>;
  exists(id: string): Promise<boolean>;
  /** Null when there is no such job, or its file cannot be read as one. */
  readSpec(id: string): Promise<JobSpec | null>;
  /** When the job was made, in ms. */
  createdAt(id: string): Promise<number>;
  ids(): Promise<string[]>;
  readFinal(id: string): Promise<FinalRecord | null>;
  /** Makes this the end of the job unless it has one; returns the one it has. */
  finish(id: string, record: FinalRecord): Promise<FinalRecord>;
  /** 0 before the first attempt. */
  readAttempt(id: string): Promise<number>;
  writeAttempt(id: string, attempt: number): Promise<void>;
  remove(id: string): Promise<void>;
}

/** Ids are made by the service; whatever else comes in a URL never becomes a path. */
const idPattern = /^[A-Za-z0-9][A-Za-z0-9_-]{0,99}$/;
const longestFile = 64 * 2 ** 20;

export function isJobId(id: string): boolean {
  return idPattern.test(id);
}

export function createJobFiles(dataDirectory: string): JobFiles {
  const root = join(dataDirectory, 'jobs');
  const directory = (id: string) => join(root, id);

  return {
    directory,
    async create(spec) {
      await fs.mkdir(root, { recursive: true });
      const temporary = join(root, `${temporaryPrefix}${spec.id}-${randomUUID()}`);
      try {
        await fs.mkdir(temporary);
        await writeDurably(fs, join(temporary, 'job.json'), json(spec));
        await syncDirectory(fs, temporary);
        await fs.rename(temporary, directory(spec.id));
        await syncDirectory(fs, root);
      } catch (error) {
        await fs.rm(temporary, { recursive: true, force: true });
        throw error;
      }
    },
    exists: async (id) => isJobId(id) && (await orNull(fs.stat(join(directory(id), 'job.json')))) !== null,
    async readSpec(id) {
      const spec = isJobId(id) ? await readJson<JobSpec>(join(directory(id), 'job.json')) : null;
      return spec !== null && spec.id === id ? spec : null;
    },
    createdAt: async (id) => (await fs.stat(join(directory(id), 'job.json'))).mtimeMs,
    async ids() {
      if ((await orNull(fs.stat(root))) === null) return [];
      await sweep(fs, root);
      return (await fs.readdir(root)).filter(isJobId);
    },
    readFinal: (id) => readJson<FinalRecord>(join(directory(id), 'result.json')),
    async finish(id, record) {
      const path = join(directory(id), 'result.json');
      const isMine = await writeOnce(path, json(record));
      const written = isMine ? record : await readJson<FinalRecord>(path);
      if (written === null) throw new Error(`${path} exists and cannot be read.`);
      return written;
    },
    async readAttempt(id) {
      return Number((await readText(join(directory(id), 'attempt'))) ?? 0);
    },
    async writeAttempt(id, attempt) {
      const temporary = join(directory(id), `${temporaryPrefix}${randomUUID()}`);
      await writeDurably(fs, temporary, Buffer.from(String(attempt)));
      await fs.rename(temporary, join(directory(id), 'attempt'));
      await syncDirectory(fs, directory(id));
    },
    remove: (id) => fs.rm(directory(id), { recursive: true, force: true }),
  };
}

function json(value: unknown): Uint8Array {
  return Buffer.from(`${JSON.stringify(value, null, 2)}\n`);
}

async function readText(path: string): Promise<string | null> {
  const bytes = await readBounded(fs, path, longestFile);
  return bytes === null ? null : Buffer.from(bytes).toString('utf8');
}

/** Null when the file is missing or is not JSON. */
async function readJson<T>(path: string): Promise<T | null> {
  const text = await readText(path);
  if (text === null) return null;
  try {
    return JSON.parse(text) as T;
  } catch {
    return null;
  }
}

/** Creates a whole durable file unless one is there; says whether it did. */
async function writeOnce(path: string, bytes: Uint8Array): Promise<boolean> {
  const folder = join(path, '..');
  const temporary = join(folder, `${temporaryPrefix}${randomUUID()}`);
  await writeDurably(fs, temporary, bytes);
  try {
    await fs.link(temporary, path);
  } catch (error) {
    if (systemCode(error) === 'EEXIST') return false;
    throw error;
  } finally {
    await fs.rm(temporary, { force: true });
  }
  await syncDirectory(fs, folder);
  return true;
}
