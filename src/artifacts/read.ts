/** Reading the store: nothing leaves here that was not compared with its sha256. */
import { join } from 'node:path';
import { PtunedError } from '../errors.ts';
import { type Disk, orNull, readBounded } from './disk.ts';
import type { ArtifactManifest } from './format.ts';
import { damaged, decodeManifest, sha256 } from './manifest.ts';
import { encodeId } from './names.ts';

export interface Reader {
  /** Directory of an artifact. Throws model_not_found for what cannot be an id. */
  place(id: string): string;
  version(id: string): Promise<string | null>;
  get(id: string): Promise<ArtifactManifest>;
  readVerified(manifest: ArtifactManifest, name: string): Promise<Uint8Array>;
  /** What stands under an id: a whole artifact, none, or one that cannot be served. Reads every byte of it. */
  standing(id: string): Promise<ArtifactManifest | 'none' | 'damaged'>;
}

const longestManifest = 1 << 26;

export function createReader(directory: string, disk: Disk): Reader {
  function place(id: string): string {
    const name = encodeId(id);
    if (name === null) throw notFound(id);
    return join(directory, name);
  }

  async function version(id: string): Promise<string | null> {
    if (encodeId(id) === null) return null;
    const found = await orNull(disk.stat(join(place(id), 'manifest.json')));
    return found === null ? null : `${found.ino}:${found.size}:${found.mtimeMs}`;
  }

  async function get(id: string): Promise<ArtifactManifest> {
    const path = place(id);
    // Twice, for an artifact that was renamed into place between the first look and the second.
    for (let look = 0; look < 2; look++) {
      const bytes = await readBounded(disk, join(path, 'manifest.json'), longestManifest);
      if (bytes !== null) return decodeManifest(bytes, id);
      if ((await orNull(disk.stat(path))) === null) throw notFound(id);
    }
    throw damaged(id, 'manifest.json is missing or too long');
  }

  async function readVerified(manifest: ArtifactManifest, name: string): Promise<Uint8Array> {
    const file = manifest.files.find(({ path }) => path === name);
    if (file === undefined) throw damaged(manifest.id, `it has no ${name}`);
    const bytes = await readBounded(disk, join(place(manifest.id), name), file.bytes);
    // Removed since its manifest was read: gone, not damaged.
    if (bytes === null && (await version(manifest.id)) === null) throw notFound(manifest.id);
    if (bytes === null || bytes.length !== file.bytes || sha256(bytes) !== file.sha256) {
      throw damaged(manifest.id, `${name} does not have the sha256 of its manifest`);
    }
    return bytes;
  }

  async function standing(id: string): Promise<ArtifactManifest | 'none' | 'damaged'> {
    try {
      const manifest = await get(id);
      for (const { path } of manifest.files) await readVerified(manifest, path);
      return manifest;
    } catch (error) {
      if (error instanceof PtunedError && error.code === 'model_not_found') return 'none';
      if (error instanceof PtunedError && error.code === 'damaged_artifact') return 'damaged';
      throw error;
    }
  }

  return { place, version, get, readVerified, standing };
}

export function notFound(id: string): PtunedError {
  return new PtunedError('model_not_found', `There is no model "${id}".`, { param: 'model' });
}
