/** Whether a folder still holds the LM that was imported; a tuned prompt must not meet other weights. */
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { PtunedError } from '../errors.ts';
import type { ModelFile, ModelManifest } from '../models/manifest.ts';

/** Compares files of the LM's folder with their sha256 in its manifest. Throws missing_file, model_mismatch. */
export async function verifyFiles(manifest: ModelManifest, files: readonly ModelFile[]): Promise<void> {
  for (const { path, sha256 } of files) {
    const hash = createHash('sha256');
    const file = createReadStream(join(manifest.directory, path), { highWaterMark: 1 << 20 });
    await pipeline(file, hash).catch((cause: NodeJS.ErrnoException) => {
      throw new PtunedError('missing_file', `${path} of the LM "${manifest.id}" cannot be read (${cause.code}).`, {
        cause,
      });
    });
    if (hash.digest('hex') !== sha256) {
      throw new PtunedError('model_mismatch', `${path} is not the file that was imported as "${manifest.id}".`);
    }
  }
}
