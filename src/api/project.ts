/** Where the project itself lies, whether it runs from source or from dist. */
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';

/** The folder of package.json. */
export function projectFolder(): string {
  let folder = import.meta.dirname;
  while (!existsSync(join(folder, 'package.json')) && dirname(folder) !== folder) folder = dirname(folder);
  return folder;
}
