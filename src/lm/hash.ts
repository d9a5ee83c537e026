/** Hashes of an LM's files, computed in a thread of their own: the runtime blocks the one that tries the LM out. */
import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import type { ModelFile } from '../models/manifest.ts';

/** Plain JavaScript, so that it runs from sources and from the build alike. Reads pieces of 4 MiB. */
const thread = `
const { closeSync, openSync, readSync } = require('node:fs');
const { createHash } = require('node:crypto');
const { parentPort, workerData } = require('node:worker_threads');
const buffer = Buffer.allocUnsafe(1 << 22);
parentPort.postMessage(workerData.map((path) => {
  const file = openSync(path, 'r');
  const hash = createHash('sha256');
  let bytes = 0;
  for (let count; (count = readSync(file, buffer)) > 0; bytes += count) hash.update(buffer.subarray(0, count));
  closeSync(file);
  return { bytes, sha256: hash.digest('hex') };
}));
`;

/**
 * Files by their paths relative to `folder`, in that order. Rejects when one cannot be read.
 * @param signal ends the work when its result is not wanted any more
 */
export function hashFiles(folder: string, paths: readonly string[], signal?: AbortSignal): Promise<ModelFile[]> {
  if (paths.length === 0) return Promise.resolve([]);
  const workerData = paths.map((path) => join(folder, path));
  const worker = new Worker(thread, { eval: true, workerData });
  const stop = () => void worker.terminate();
  signal?.addEventListener('abort', stop);
  return new Promise((resolve, reject) => {
    worker.once('message', (found: { bytes: number; sha256: string }[]) =>
      resolve(found.map((one, i) => ({ path: paths[i]!, ...one }))),
    );
    worker.once('error', reject);
    worker.once('exit', () => reject(new Error('hashing was stopped')));
  });
}

/**
 * What a tuned prompt is bound to: sha256 over paths and hashes. A prompt for one lookup is none for another, so a lookup that
 * was chosen is a part of it.
 */
export function identityOf(files: readonly ModelFile[], embedding: string | undefined): string {
  const hash = createHash('sha256');
  for (const file of files) hash.update(`${file.path}\0${file.sha256}\n`);
  if (embedding !== undefined) hash.update(`embedding\0${embedding}\n`);
  return hash.digest('hex');
}
