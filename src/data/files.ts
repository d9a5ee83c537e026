/** Uploaded files on disk: files/<id>/{meta.json,content}. An id exists only when both parts are whole. */
import { createHash, randomBytes } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { mkdir, open, readdir, readFile, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { type Readable, Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { PtunedError } from '../errors.ts';

export interface StoredFile {
  id: string;
  owner: string;
  filename: string;
  purpose: string;
  bytes: number;
  sha256: string;
  /** Unix seconds. */
  createdAt: number;
}

export interface FilePage {
  files: StoredFile[];
  hasMore: boolean;
}

export interface FileStore {
  /** Streams an upload to disk. @throws PtunedError empty_file, payload_too_large */
  create(
    content: Readable,
    about: { owner: string; filename: string; purpose: string; limitBytes: number },
  ): Promise<StoredFile>;
  /** Null when there is no such file of this owner. */
  get(id: string, owner: string): Promise<StoredFile | null>;
  /** Newest first; `after` is the id the page begins behind. */
  list(owner: string, page: { after?: string; limit: number }): Promise<FilePage>;
  /** False when there was no such file of this owner. */
  remove(id: string, owner: string): Promise<boolean>;
  content(file: StoredFile): Readable;
  /** Absolute path of the content, for workers on the same volume. */
  path(id: string): string;
}

const idPattern = /^file-[0-9a-f]{24}$/;

/** A store below `dataDirectory`/files, made when first needed. */
export function createFileStore(dataDirectory: string): FileStore {
  const root = join(dataDirectory, 'files');
  const folder = (id: string) => join(root, id);
  const contentPath = (id: string) => join(folder(id), 'content');
  const read = async (id: string): Promise<StoredFile | null> => {
    if (!idPattern.test(id)) return null;
    const text = await readFile(join(folder(id), 'meta.json'), 'utf8').catch(absent);
    return text === null ? null : (JSON.parse(text) as StoredFile);
  };
  const get = async (id: string, owner: string) => {
    const file = await read(id);
    return file?.owner === owner ? file : null;
  };
  return {
    get,
    path: contentPath,
    content: (file) => createReadStream(contentPath(file.id)),
    async create(content, { owner, filename, purpose, limitBytes }) {
      const id = `file-${randomBytes(12).toString('hex')}`;
      const temporary = join(root, `.tmp-${id}`);
      await mkdir(temporary, { recursive: true });
      try {
        const { bytes, sha256 } = await writeContent(content, join(temporary, 'content'), limitBytes);
        if (bytes === 0)
          throw new PtunedError(
            'empty_file',
            `The file "${filename}" is empty; a JSONL file with at least one row is expected.`,
            { param: 'file' },
          );
        const file: StoredFile = {
          id,
          owner,
          filename,
          purpose,
          bytes,
          sha256,
          createdAt: Math.floor(Date.now() / 1000),
        };
        await writeWhole(join(temporary, 'meta.json'), JSON.stringify(file));
        await rename(temporary, folder(id));
        await syncFolder(root);
        return file;
      } catch (error) {
        await rm(temporary, { recursive: true, force: true });
        throw error;
      }
    },
    async list(owner, { after, limit }) {
      const names = (await readdir(root).catch(absent)) ?? [];
      const files = (await Promise.all(names.map((name) => get(name, owner)))).filter((file) => file !== null);
      files.sort((a, b) => b.createdAt - a.createdAt || (a.id < b.id ? 1 : -1));
      const start = after === undefined ? 0 : files.findIndex((file) => file.id === after) + 1;
      if (after !== undefined && start === 0)
        throw new PtunedError('invalid_request', `There is no file "${after}" to begin behind.`, { param: 'after' });
      return { files: files.slice(start, start + limit), hasMore: files.length > start + limit };
    },
    async remove(id, owner) {
      if ((await get(id, owner)) === null) return false;
      // Out of sight first: a crash halfway leaves nothing that looks whole.
      const doomed = join(root, `.tmp-removed-${id}`);
      await rename(folder(id), doomed);
      await rm(doomed, { recursive: true, force: true });
      return true;
    },
  };
}

function absent(error: NodeJS.ErrnoException): null {
  if (error.code === 'ENOENT' || error.code === 'ENOTDIR') return null;
  throw error;
}

async function writeContent(
  content: Readable,
  path: string,
  limit: number,
): Promise<{ bytes: number; sha256: string }> {
  const hash = createHash('sha256');
  let bytes = 0;
  const counted = new Transform({
    transform(chunk: Buffer, _encoding, done) {
      bytes += chunk.length;
      if (bytes > limit)
        return done(
          new PtunedError('payload_too_large', `The file is larger than ${limit} bytes, the most that is accepted.`, {
            param: 'file',
          }),
        );
      hash.update(chunk);
      done(null, chunk);
    },
  });
  const file = await open(path, 'wx');
  try {
    await pipeline(content, counted, file.createWriteStream({ autoClose: false }));
    await file.sync();
  } finally {
    await file.close();
  }
  return { bytes, sha256: hash.digest('hex') };
}

async function writeWhole(path: string, text: string): Promise<void> {
  const file = await open(path, 'wx');
  try {
    await file.writeFile(text);
    await file.sync();
  } finally {
    await file.close();
  }
}

async function syncFolder(path: string): Promise<void> {
  const folder = await open(path, 'r');
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}
