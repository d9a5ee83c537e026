/** Frozen LMs by id: models/<id>.json, one manifest each. The weights stay where they were imported from. */
import { mkdir, readdir, readFile, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import writeFileAtomic from 'write-file-atomic';
import { PtunedError } from '../errors.ts';
import type { ModelManifest } from './manifest.ts';

export interface ModelRegistry {
  /** Null when no LM has this id. */
  get(id: string): Promise<ModelManifest | null>;
  /** By id. */
  list(): Promise<ModelManifest[]>;
  /** Registers an LM. @throws PtunedError conflict when the id belongs to an LM with another hash */
  put(manifest: ModelManifest): Promise<void>;
  /** Forgets an LM (its files stay); false when there was none. */
  remove(id: string): Promise<boolean>;
}

const idPattern = /^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$/;

/** A registry below `dataDirectory`/models. Other processes may write to it: a manifest is read again when its file changed. */
export function createModelRegistry(dataDirectory: string): ModelRegistry {
  const root = join(dataDirectory, 'models');
  const cache = new Map<string, { stamp: string; manifest: ModelManifest }>();
  const path = (id: string) => join(root, `${id}.json`);

  const get = async (id: string): Promise<ModelManifest | null> => {
    if (!idPattern.test(id)) return null;
    const found = await stat(path(id)).catch(absent);
    if (found === null) return null;
    const stamp = `${found.mtimeMs} ${found.size} ${found.ino}`;
    const cached = cache.get(id);
    if (cached?.stamp === stamp) return cached.manifest;
    const text = await readFile(path(id), 'utf8').catch(absent);
    if (text === null) return null;
    const manifest = JSON.parse(text) as ModelManifest;
    cache.set(id, { stamp, manifest });
    return manifest;
  };
  return {
    get,
    async list() {
      const names = ((await readdir(root).catch(absent)) ?? []).filter((name) => name.endsWith('.json')).sort();
      const manifests = await Promise.all(names.map((name) => get(name.slice(0, -'.json'.length))));
      return manifests.filter((manifest) => manifest !== null);
    },
    async put(manifest) {
      const present = await get(manifest.id);
      if (present !== null && present.hash !== manifest.hash) {
        throw new PtunedError(
          'conflict',
          `The id "${manifest.id}" belongs to another LM (${present.directory}); choose another id or remove that one first.`,
          { param: 'id' },
        );
      }
      await mkdir(root, { recursive: true });
      await writeFileAtomic(path(manifest.id), `${JSON.stringify(manifest, null, 2)}\n`);
    },
    async remove(id) {
      if ((await get(id)) === null) return false;
      await rm(path(id), { force: true });
      cache.delete(id);
      return true;
    },
  };
}

function absent(error: NodeJS.ErrnoException): null {
  if (error.code === 'ENOENT') return null;
  throw error;
}
