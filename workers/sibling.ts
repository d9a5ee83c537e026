/** Scripts beside each other, from source as from the build. */
import { extname } from 'node:path';
import { fileURLToPath } from 'node:url';

/** Path of `name` (without extension, relative to the file at `url`) with that file's own extension. */
export function sibling(url: string, name: string): string {
  return fileURLToPath(new URL(`${name}${extname(new URL(url).pathname)}`, url));
}
