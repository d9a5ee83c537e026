/** Changing the store: written aside, synced, renamed into place; removed by renaming away first. */
import { randomUUID } from 'node:crypto';
import { join } from 'node:path';
import { PtunedError } from '../errors.ts';
import { type Disk, orNull, sweep, syncDirectory, systemCode, temporaryPrefix, writeDurably } from './disk.ts';
import type { ArtifactManifest } from './format.ts';
import { encodeManifest } from './manifest.ts';
import { notFound, type Reader } from './read.ts';

export interface Writer {
  put(manifest: ArtifactManifest, files: Record<string, Uint8Array>): Promise<ArtifactManifest>;
  remove(id: string): Promise<void>;
}

export function createWriter(directory: string, disk: Disk, reader: Reader): Writer {
  let swept = false;

  async function discard(path: string): Promise<void> {
    await disk.rm(path, { recursive: true, force: true }).catch(() => undefined);
  }

  async function setAside(path: string): Promise<void> {
    const aside = join(directory, `${temporaryPrefix}${randomUUID()}`);
    await disk.rename(path, aside);
    await syncDirectory(disk, directory);
    await discard(aside);
  }

  async function moveIntoPlace(manifest: ArtifactManifest, from: string): Promise<ArtifactManifest> {
    const to = reader.place(manifest.id);
    const found = await reader.standing(manifest.id);
    if (found === 'damaged') await setAside(to);
    else if (found !== 'none') return keep(found, manifest);
    try {
      await disk.rename(from, to);
    } catch (error) {
      // Another process was first: rename does not replace a directory that is not empty.
      const other = ['ENOTEMPTY', 'EEXIST'].includes(systemCode(error) ?? '')
        ? await reader.standing(manifest.id)
        : 'none';
      if (typeof other === 'string') throw error;
      return keep(other, manifest);
    }
    await syncDirectory(disk, directory);
    return manifest;
  }

  return {
    async put(manifest, files) {
      const bytes = encodeManifest(manifest);
      await disk.mkdir(directory, { recursive: true });
      if (!swept) await sweep(disk, directory);
      swept = true;
      const temporary = join(directory, `${temporaryPrefix}${randomUUID()}`);
      try {
        await disk.mkdir(temporary);
        for (const [name, content] of Object.entries(files)) await writeDurably(disk, join(temporary, name), content);
        await writeDurably(disk, join(temporary, 'manifest.json'), bytes);
        await syncDirectory(disk, temporary);
        return await moveIntoPlace(manifest, temporary);
      } finally {
        await discard(temporary);
      }
    },
    async remove(id) {
      const path = reader.place(id);
      if ((await orNull(disk.stat(path))) === null) throw notFound(id);
      await setAside(path);
    },
  };
}

/** Times and durations differ when a job repeats its last step; what it computed and from what must not. */
function keep(standing: ArtifactManifest, wanted: ArtifactManifest): ArtifactManifest {
  const identity = ({ owner, jobId, base, kind, method, seed, data, step, files }: ArtifactManifest) =>
    JSON.stringify([owner, jobId, base, kind, method, seed, data, step, files]);
  if (identity(standing) === identity(wanted)) return standing;
  throw new PtunedError('conflict', `The model "${wanted.id}" exists already with other content.`, { param: 'model' });
}
