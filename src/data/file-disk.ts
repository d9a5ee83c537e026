/** What the file store asks of the disk: durable writes, and failures in the project's terms. */
import { createHash } from 'node:crypto';
import { open, readdir, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { PtunedError } from '../errors.ts';

/** Folders with this prefix are being written or removed, and no file of any owner. */
export const temporaryPrefix = '.tmp-';
/** Longer than any upload takes: what is older was left behind by a process that died. */
const staleMilliseconds = 24 * 3_600_000;

const storageFailures = ['ENOSPC', 'EDQUOT', 'EIO', 'EROFS', 'EACCES', 'EPERM', 'EMFILE', 'ENFILE', 'ENOTDIR', 'EBUSY'];

/** Failures of the disk become storage_unavailable; others, such as an upload broken off, pass. */
export async function storing<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? '';
    if (error instanceof PtunedError || !storageFailures.includes(code)) throw error;
    throw new PtunedError('storage_unavailable', `The store of uploaded files cannot be used now (${code}).`, {
      cause: error,
    });
  }
}

/** For `catch`: null where a path does not exist. */
export function absent(error: NodeJS.ErrnoException): null {
  if (error.code === 'ENOENT') return null;
  throw error;
}

/** Removes what a killed process left behind. */
export async function sweep(root: string): Promise<void> {
  for (const name of await readdir(root)) {
    if (!name.startsWith(temporaryPrefix)) continue;
    const found = await stat(join(root, name)).catch(absent);
    if (found === null || Date.now() - found.mtimeMs < staleMilliseconds) continue;
    await rm(join(root, name), { recursive: true, force: true });
  }
}

/**
 * Streams to a new file and on to the disk itself; more than `limit` bytes are refused. `read` is given what has been
 * written, as it is written, and refuses it by throwing.
 */
export async function writeContent(
  content: Readable,
  path: string,
  limit: number,
  read: (written: AsyncIterable<Uint8Array>) => Promise<void>,
): Promise<{ bytes: number; sha256: string }> {
  const hash = createHash('sha256');
  let bytes = 0;
  const file = await open(path, 'wx');
  async function* writing(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
    for await (const chunk of chunks) {
      bytes += chunk.length;
      if (bytes > limit) {
        const message = `The file is larger than ${limit} bytes, the most that is accepted.`;
        throw new PtunedError('payload_too_large', message, { param: 'file' });
      }
      hash.update(chunk);
      await file.writeFile(chunk);
      yield chunk;
    }
  }
  try {
    await pipeline(content, (chunks: AsyncIterable<Uint8Array>) => read(writing(chunks)));
    await file.sync();
  } finally {
    await file.close();
  }
  return { bytes, sha256: hash.digest('hex') };
}

/** Writes a new file and returns when it is on the disk itself. */
export async function writeWhole(path: string, text: string): Promise<void> {
  const file = await open(path, 'wx');
  try {
    await file.writeFile(text);
    await file.sync();
  } finally {
    await file.close();
  }
}

/** Makes the names in a folder durable. */
export async function syncFolder(path: string): Promise<void> {
  const folder = await open(path, 'r');
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}
