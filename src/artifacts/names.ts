/** Names in the store: model ids as directory names, and what a file beside a manifest may be called. */
import { PtunedError } from '../errors.ts';

/** Letters, digits and ". _ - :", so an id is never a path, and never hidden. */
const idPattern = /^[A-Za-z0-9][A-Za-z0-9._:-]*$/;
const encodedPattern = /^[A-Za-z0-9](?:[A-Za-z0-9._-]|%3A)*$/;
const filePattern = /^[a-z0-9][a-z0-9._-]{0,99}$/;
const longestName = 255;

/** Directory name of a model id, or null when the string cannot be one (so nothing is stored under it). */
export function encodeId(id: string): string | null {
  const encoded = id.replaceAll(':', '%3A');
  return idPattern.test(id) && encoded.length <= longestName ? encoded : null;
}

/** The inverse of {@link encodeId}; null for names that are not encoded ids (temporary directories). */
export function decodeId(name: string): string | null {
  return encodedPattern.test(name) ? name.replaceAll('%3A', ':') : null;
}

/** Throws for a file name that could leave its directory or hide the manifest. */
export function checkFileName(name: string): void {
  if (!filePattern.test(name) || name === 'manifest.json') {
    throw new PtunedError('damaged_artifact', `An artifact cannot hold a file "${name}".`);
  }
}
