/** Which artifacts an owner has. Manifests are read once and remembered by their version. */
import { PtunedError } from '../errors.ts';
import { type Disk, orNull } from './disk.ts';
import type { ArtifactManifest } from './format.ts';
import { decodeId } from './names.ts';
import type { Reader } from './read.ts';

export interface ArtifactPage {
  data: ArtifactManifest[];
  hasMore: boolean;
}

export interface PageRequest {
  after?: string | undefined;
  limit?: number | undefined;
}

export function createListing(directory: string, disk: Disk, reader: Reader) {
  const seen = new Map<string, { version: string; owner: string; createdAt: number }>();

  async function refresh(): Promise<void> {
    const present = new Set<string>();
    for (const name of (await orNull(disk.readdir(directory))) ?? []) {
      const id = decodeId(name);
      const version = id === null ? null : await reader.version(id);
      if (id === null || version === null) continue;
      const manifest = seen.get(id)?.version === version ? null : await reader.get(id).catch(nullIfUnservable);
      if (manifest !== null) seen.set(id, { version, owner: manifest.owner, createdAt: manifest.createdAt });
      if (seen.get(id)?.version === version) present.add(id);
    }
    for (const id of seen.keys()) if (!present.has(id)) seen.delete(id);
  }

  /** An owner's artifacts, newest first, after the id `after`; damaged ones are left out. */
  return async function list(owner: string, { after, limit = 100 }: PageRequest = {}): Promise<ArtifactPage> {
    await refresh();
    const mine = [...seen].filter(([, entry]) => entry.owner === owner);
    const ids = mine.sort(([a, one], [b, other]) => other.createdAt - one.createdAt || (a < b ? -1 : 1));
    let at = after === undefined ? 0 : ids.findIndex(([id]) => id === after) + 1;
    if (after !== undefined && at === 0) {
      throw new PtunedError('invalid_request', `after is "${after}", which is not the id of a model.`, {
        param: 'after',
      });
    }
    const data: ArtifactManifest[] = [];
    for (; at < ids.length && data.length < limit; at++) {
      const manifest = await reader.get(ids[at]![0]).catch(nullIfUnservable);
      if (manifest !== null) data.push(manifest);
    }
    return { data, hasMore: at < ids.length };
  };
}

function nullIfUnservable(error: unknown): null {
  if (error instanceof PtunedError && ['model_not_found', 'damaged_artifact'].includes(error.code)) return null;
  throw error;
}
