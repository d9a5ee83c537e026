/** The folders from which LMs may be registered over HTTP; a request never reads a file outside them. */
import { realpath, stat } from 'node:fs/promises';
import { isAbsolute, join, resolve, sep } from 'node:path';
import { PtunedError } from '../errors.ts';

/**
 * The real path of a folder inside one of the roots, or of a root itself. A relative path is looked up in each root, and in `base`.
 * Symbolic links are resolved first, so that none leads out.
 * @throws PtunedError import_refused naming the roots; what lies outside is not even said to exist
 */
export async function resolveModelFolder(path: string, roots: readonly string[], base: string): Promise<string> {
  const candidates = isAbsolute(path) ? [path] : [base, ...roots].map((root) => join(root, path));
  const accepted = await Promise.all(roots.map((root) => realpath(root).catch(() => resolve(root))));
  for (const candidate of path.includes('\0') ? [] : candidates) {
    const real = await realpath(candidate).catch(() => null);
    if (real === null) continue;
    const inside = accepted.some((root) => real === root || real.startsWith(root + sep));
    if (inside && (await stat(real)).isDirectory()) return real;
  }
  const folders = roots.length === 0 ? 'none; set PTUNED_MODEL_ROOTS' : roots.join(', ');
  throw new PtunedError('import_refused', `path is "${path}"; accepted: an existing folder inside ${folders}.`, {
    param: 'path',
  });
}
