/**
 * Folders of the Hub's cache, models--OWNER--NAME/snapshots/REVISION, whose files are links to models--OWNER--NAME/blobs.
 * onnxruntime takes no weights from outside the folder it is given, also through links.
 */
import { existsSync, realpathSync } from 'node:fs';
import { dirname, join, relative, sep } from 'node:path';
import { type Graph, isExternal, type Tensor } from './ir.ts';

/** Whether symlinks take a path out of the folder, to elsewhere than the blobs of the cache that it belongs to. */
export function leadsOut(path: string, directory: string): boolean {
  if (!existsSync(path)) return false;
  const [real, folder] = [realpathSync(path), realpathSync(directory)];
  if (`${real}${sep}`.startsWith(`${folder}${sep}`)) return false;
  const cache = cacheOf(folder);
  return cache === null || dirname(real) !== join(cache, 'blobs');
}

/** The graph with weights where the links lead, relative to the cache; anything else is as it was. */
export function followLinks(graph: Graph, directory: string): { graph: Graph; directory: string } {
  const cache = existsSync(directory) ? cacheOf(realpathSync(directory)) : null;
  if (cache === null) return { graph, directory };
  const followed = new Map<string, string>();
  const follow = (location: string) => {
    const path = join(directory, location);
    const found = followed.get(location) ?? relative(cache, leadsOut(path, directory) ? path : realpathSync(path));
    followed.set(location, found);
    return found;
  };
  const moved = ([name, tensor]: [string, Tensor]): [string, Tensor] => {
    const { data } = tensor;
    return [name, isExternal(data) ? { ...tensor, data: { ...data, location: follow(data.location) } } : tensor];
  };
  return { graph: { ...graph, initializers: new Map([...graph.initializers].map(moved)) }, directory: cache };
}

/** models--OWNER--NAME of a snapshot, or of a folder in one. */
function cacheOf(folder: string): string | null {
  return /^(.*\/models--[^/]+)\/snapshots\/[^/]+(\/.*)?$/.exec(folder)?.[1] ?? null;
}
