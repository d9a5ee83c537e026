/** Durable writes in terms of few file-system calls, which tests replace to make each of them fail. */
import type fs from 'node:fs/promises';
import { join } from 'node:path';
import { PtunedError } from '../errors.ts';

export type Disk = Pick<typeof fs, 'mkdir' | 'open' | 'readdir' | 'rename' | 'rm' | 'stat'>;

/** Writes a new file and returns when it is on the disk itself. */
export async function writeDurably(disk: Disk, path: string, bytes: Uint8Array): Promise<void> {
  const file = await disk.open(path, 'wx');
  try {
    await file.writeFile(bytes);
    await file.sync();
  } finally {
    await file.close();
  }
}

/** Makes the names in a directory durable. */
export async function syncDirectory(disk: Disk, path: string): Promise<void> {
  const directory = await disk.open(path, 'r');
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}

/** A whole file of at most `limit` bytes; null when it does not exist or is longer. */
export async function readBounded(disk: Disk, path: string, limit: number): Promise<Uint8Array | null> {
  const file = await orNull(disk.open(path, 'r'));
  if (file === null) return null;
  try {
    return (await file.stat()).size > limit ? null : await file.readFile();
  } finally {
    await file.close();
  }
}

/** Null instead of an error when a path does not exist. */
export async function orNull<T>(work: Promise<T>): Promise<T | null> {
  try {
    return await work;
  } catch (error) {
    if (systemCode(error) === 'ENOENT' || systemCode(error) === 'ENOTDIR') return null;
    throw error;
  }
}

/** What went wrong in the operating system (ENOSPC, EIO, …), or null for other errors. */
export function systemCode(error: unknown): string | null {
  if (!(error instanceof Error) || !('code' in error) || !('syscall' in error)) return null;
  return typeof error.code === 'string' ? error.code : null;
}

/** Turns a file-system failure into storage_unavailable; other errors pass. */
export async function storing<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    const code = systemCode(error);
    if (code === null) throw error;
    throw new PtunedError('storage_unavailable', `The store of tuned prompts cannot be used now (${code}).`, {
      cause: error,
    });
  }
}

/** Temporary directories are hidden from every reader and older ones are swept. */
export const temporaryPrefix = '.tmp-';
const staleMilliseconds = 3_600_000;

/** Removes what a killed writer left behind more than an hour ago. */
export async function sweep(disk: Disk, directory: string): Promise<void> {
  for (const name of await disk.readdir(directory)) {
    if (!name.startsWith(temporaryPrefix)) continue;
    const path = join(directory, name);
    const found = await orNull(disk.stat(path));
    if (found !== null && Date.now() - found.mtimeMs > staleMilliseconds) {
      await disk.rm(path, { recursive: true, force: true });
    }
  }
}
