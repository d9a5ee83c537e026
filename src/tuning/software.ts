/** Versions of what made an artifact. */
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import type { ArtifactManifest } from '../artifacts/format.ts';

let found: ArtifactManifest['software'] | null = null;

/** Read once from the packages themselves. */
export function software(): ArtifactManifest['software'] {
  found ??= {
    ptuned: ownVersion(),
    onnxruntime: (createRequire(import.meta.url)('onnxruntime-node/package.json') as { version: string }).version,
    node: process.versions.node,
  };
  return found;
}

// The sources run from src/ and, compiled, from dist/src/: the package file is two or three folders up.
function ownVersion(): string {
  for (const up of ['../../package.json', '../../../package.json']) {
    try {
      const content = JSON.parse(readFileSync(new URL(up, import.meta.url), 'utf8')) as Record<string, string>;
      if (content.name === 'ptuned' && content.version !== undefined) return content.version;
    } catch {
      // not there: look one folder further up
    }
  }
  return 'unknown';
}
