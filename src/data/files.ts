/** Uploaded files on disk: files/<id>/{meta.json,content}. An id exists only when both parts are whole. */
import { randomBytes } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { mkdir, readdir, readFile, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { PtunedError } from '../errors.ts';
import { absent, storing, sweep, syncFolder, temporaryPrefix, writeContent, writeWhole } from './file-disk.ts';
import { checkJsonl } from './jsonl.ts';

export interface StoredFile {
  id: string;
  owner: string;
  filename: string;
  purpose: string;
  bytes: number;
  sha256: string;
  /** Unix seconds. */
  createdAt: number;
  /** Unix milliseconds, growing with every file of a process: the order of files of the same second. */
  order: number;
}

export interface FilePage {
  files: StoredFile[];
  hasMore: boolean;
}

/** Another owner's file is as if it were not there. A full or broken disk is storage_unavailable. */
export interface FileStore {
  /**
   * Streams an upload to disk, of which nothing is left when it fails.
   * @throws PtunedError empty_file, payload_too_large, and invalid_json naming the line of a file called *.jsonl
   */
  create(
    content: Readable,
    about: { owner: string; filename: string; purpose: string; limitBytes: number },
  ): Promise<StoredFile>;
  /** Null when there is no such file of this owner. */
  get(id: string, owner: string): Promise<StoredFile | null>;
  /** Newest first; `after` is the id the page begins behind. @throws PtunedError invalid_request when it is not there */
  list(owner: string, page: { after?: string; limit: number }): Promise<FilePage>;
  /** False when there was no such file of this owner. */
  remove(id: string, owner: string): Promise<boolean>;
  content(file: StoredFile): Readable;
  /** Absolute path of the content, for workers on the same volume. */
  path(id: string): string;
}

const idPattern = /^file-[0-9a-f]{24}$/;
/** Files read at once when listing. */
const readAtOnce = 64;

/** A store below `dataDirectory`/files, made when first needed. */
export function createFileStore(dataDirectory: string): FileStore {
  const root = join(dataDirectory, 'files');
  const reader = createReader(root);
  const create = createUpload(root);

  async function list(owner: string, { after, limit }: { after?: string; limit: number }): Promise<FilePage> {
    const files = await reader.owned(owner);
    const start = after === undefined ? 0 : files.findIndex((file) => file.id === after) + 1;
    if (after !== undefined && start === 0) {
      throw new PtunedError('invalid_request', `There is no file "${after}" to begin behind.`, { param: 'after' });
    }
    return { files: files.slice(start, start + limit), hasMore: files.length > start + limit };
  }

  async function remove(id: string, owner: string): Promise<boolean> {
    if ((await reader.get(id, owner)) === null) return false;
    // Out of sight first: a crash halfway leaves nothing that looks whole.
    const doomed = join(root, `${temporaryPrefix}removed-${id}`);
    const moved = await rename(folderOf(root, id), doomed).then(() => true, absent);
    if (moved === null) return false;
    await syncFolder(root);
    await rm(doomed, { recursive: true, force: true });
    return true;
  }

  return {
    create: (content, about) => storing(() => create(content, about)),
    get: (id, owner) => storing(() => reader.get(id, owner)),
    list: (owner, page) => storing(() => list(owner, page)),
    remove: (id, owner) => storing(() => remove(id, owner)),
    content: (file) => createReadStream(contentPath(root, file.id)),
    path: (id) => contentPath(root, id),
  };
}

/** No path is made of an id that this store did not make. @throws PtunedError file_not_found */
function folderOf(root: string, id: string): string {
  if (!idPattern.test(id)) throw new PtunedError('file_not_found', `There is no file "${id}".`);
  return join(root, id);
}

function contentPath(root: string, id: string): string {
  return join(folderOf(root, id), 'content');
}

function createReader(root: string) {
  // What is stored never changes, so listing reads each description once.
  const known = new Map<string, StoredFile>();

  async function read(id: string): Promise<StoredFile | null> {
    if (!idPattern.test(id)) return null;
    const text = await readFile(join(folderOf(root, id), 'meta.json'), 'utf8').catch(absent);
    if (text === null) return null;
    const file = JSON.parse(text) as StoredFile;
    known.set(id, file);
    return file;
  }

  return {
    async get(id: string, owner: string): Promise<StoredFile | null> {
      const file = await read(id);
      return file?.owner === owner ? file : null;
    },
    /** Newest first. */
    async owned(owner: string): Promise<StoredFile[]> {
      const names = new Set(((await readdir(root).catch(absent)) ?? []).filter((name) => idPattern.test(name)));
      for (const id of known.keys()) if (!names.has(id)) known.delete(id);
      const unread = [...names].filter((id) => !known.has(id));
      for (let start = 0; start < unread.length; start += readAtOnce) {
        await Promise.all(unread.slice(start, start + readAtOnce).map(read));
      }
      const found = [...known.values()].filter((file) => names.has(file.id) && file.owner === owner);
      return found.sort((a, b) => b.order - a.order || (a.id < b.id ? 1 : -1));
    },
  };
}

/**
 * What reads an upload: rows wherever the name says that it has some, so that a broken line is told before anyone makes
 * a job of it. Other names are those of word lists, and of rows whose name says nothing; a job reads them.
 */
function readerOf(filename: string): (written: AsyncIterable<Uint8Array>) => Promise<void> {
  return /\.jsonl$/i.test(filename) ? checkRows : readToEnd;
}

async function checkRows(written: AsyncIterable<Uint8Array>): Promise<void> {
  try {
    await checkJsonl(written);
  } catch (error) {
    if (!(error instanceof PtunedError) || error.param !== null) throw error;
    const { code, message, details } = error;
    throw new PtunedError(code, `file: ${message}`, { param: 'file', details, cause: error });
  }
}

async function readToEnd(written: AsyncIterable<Uint8Array>): Promise<void> {
  for await (const _ of written);
}

function createUpload(root: string): FileStore['create'] {
  let lastOrder = 0;
  let swept = false;
  return async (content, { limitBytes, ...about }) => {
    const id = `file-${randomBytes(12).toString('hex')}`;
    const temporary = join(root, `${temporaryPrefix}${id}`);
    await mkdir(temporary, { recursive: true });
    if (!swept) await sweep(root);
    swept = true;
    try {
      const written = await writeContent(content, join(temporary, 'content'), limitBytes, readerOf(about.filename));
      if (written.bytes === 0)
        throw new PtunedError('empty_file', `The file "${about.filename}" is empty.`, { param: 'file' });
      lastOrder = Math.max(Date.now(), lastOrder + 1);
      const file = { id, ...about, ...written, createdAt: Math.floor(lastOrder / 1000), order: lastOrder };
      await writeWhole(join(temporary, 'meta.json'), JSON.stringify(file));
      await syncFolder(temporary);
      await rename(temporary, folderOf(root, id));
      await syncFolder(root);
      return file;
    } catch (error) {
      await rm(temporary, { recursive: true, force: true });
      throw error;
    }
  };
}
