/**
 * Tuned prompts on disk: one directory each with manifest.json, prompt.safetensors and encoder.safetensors.
 * A reader finds a whole artifact or none, and every byte that is served was compared with its sha256.
 */
import fs from 'node:fs/promises';
import { PtunedError } from '../errors.ts';
import type { ModelFile } from '../models/manifest.ts';
import { type Disk, storing } from './disk.ts';
import type { ArtifactManifest } from './format.ts';
import { type ArtifactPage, createListing, type PageRequest } from './listing.ts';
import { damaged, sha256 } from './manifest.ts';
import { checkFileName, encodeId } from './names.ts';
import { decodePrompt, promptFile } from './prompt.ts';
import { createReader } from './read.ts';
import { createWriter } from './write.ts';

export interface LoadedPrompt {
  manifest: ArtifactManifest;
  /** Folded prompt table [rows, width]. */
  table: Float32Array;
  rows: number;
  width: number;
}

/** Every method throws storage_unavailable when the disk fails. */
export interface ArtifactStore {
  /**
   * Stores an artifact durably, or nothing. `files` must hold prompt.safetensors of the manifest's shape
   * (src/artifacts/prompt.ts writes it). The same content again is no error (a resumed job repeats its last step)
   * and returns what is stored; other content under a stored id throws conflict.
   */
  put(manifest: Omit<ArtifactManifest, 'files'>, files: Record<string, Uint8Array>): Promise<ArtifactManifest>;
  /** Throws model_not_found, damaged_artifact. */
  get(id: string): Promise<ArtifactManifest>;
  /** Changes whenever the stored artifact does; null when there is none. Costs one `stat`. */
  version(id: string): Promise<string | null>;
  /** The table, verified. Throws model_not_found, damaged_artifact. */
  loadPrompt(id: string): Promise<LoadedPrompt>;
  /** One file beside the manifest, verified (encoder.safetensors to train further, exports). */
  readFile(id: string, name: string): Promise<Uint8Array>;
  /** An owner's artifacts, newest first, after the id `after`; damaged ones are left out. */
  list(owner: string, page?: PageRequest): Promise<ArtifactPage>;
  /** Throws model_not_found. */
  remove(id: string): Promise<void>;
}

/** A store in `directory`, which is made when the first artifact is written. Several processes may share it. */
export function createArtifactStore(directory: string, disk: Disk = fs): ArtifactStore {
  const reader = createReader(directory, disk);
  const writer = createWriter(directory, disk, reader);
  const list = createListing(directory, disk, reader);

  async function loadPrompt(id: string): Promise<LoadedPrompt> {
    const manifest = await reader.get(id);
    const { virtualTokens: rows, width } = manifest;
    const table = decodePrompt(await reader.readVerified(manifest, promptFile), rows, width);
    return { manifest, table, rows, width };
  }

  return {
    put: (manifest, files) => storing(async () => writer.put(describe(manifest, files), files)),
    get: (id) => storing(() => reader.get(id)),
    version: (id) => storing(() => reader.version(id)),
    loadPrompt: (id) => storing(() => loadPrompt(id)),
    readFile: (id, name) => storing(async () => reader.readVerified(await reader.get(id), name)),
    list: (owner, page) => storing(() => list(owner, page)),
    remove: (id) => storing(() => writer.remove(id)),
  };
}

/** The manifest with its files' hashes, once everything in it could be read back. */
function describe(manifest: Omit<ArtifactManifest, 'files'>, contents: Record<string, Uint8Array>): ArtifactManifest {
  if (encodeId(manifest.id) === null) {
    throw new PtunedError(
      'invalid_request',
      `The model id "${manifest.id}" cannot be stored; accepted: letters, digits and . _ - : up to 255 bytes (: counts three).`,
      { param: 'model' },
    );
  }
  const prompt = contents[promptFile];
  if (prompt === undefined) throw damaged(manifest.id, `it was given without ${promptFile}`);
  decodePrompt(prompt, manifest.virtualTokens, manifest.width);
  const files: ModelFile[] = Object.entries(contents).map(([path, bytes]) => {
    checkFileName(path);
    return { path, bytes: bytes.length, sha256: sha256(bytes) };
  });
  return { ...manifest, files: files.sort((a, b) => (a.path < b.path ? -1 : 1)) };
}
