/** The LMs that are measured: generated once into a cache folder, imported as a user's LM is. */
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { basename, join, resolve } from 'node:path';
import type { ModelManifest } from '../../src/models/manifest.ts';
import { preflightModel } from '../../src/models/preflight.ts';
import { families } from '../lms/registry.ts';
import type { LmShape } from '../lms/shape.ts';
import { writeLm } from '../lms/write.ts';

export interface BenchLm {
  name: string;
  /** What is generated; or the folder of an LM that exists. */
  source: { family: string; shape: Partial<LmShape>; cache?: boolean } | { directory: string };
  /** The peer's name for the same LM; null where it has none. */
  peer: string | null;
  /** Position whose logits are read: the last one, or where the peer reads a masked LM. */
  target: (length: number) => number;
}

const last = (length: number) => length - 1;

/** Sizes and vocabularies are those of the peer's LMs. */
const presets: readonly BenchLm[] = [
  { name: 'gpt2', source: { family: 'gpt2', shape: {} }, peer: 'gpt2', target: last },
  { name: 'bert-base', source: { family: 'bert', shape: {} }, peer: 'bert-base', target: (length) => Math.min(10, length - 1) },
  { name: 'llama-135m', source: { family: 'llama', shape: { positions: 8192 } }, peer: 'llama-135m', target: last },
  { name: 'gpt2-cache', source: { family: 'gpt2', shape: {}, cache: true }, peer: null, target: last },
  { name: 'llama-135m-cache', source: { family: 'llama', shape: { positions: 8192 }, cache: true }, peer: null, target: last },
  { name: 'gpt2-small', source: { family: 'gpt2', shape: { layers: 4, hidden: 256, heads: 4, vocabulary: 8192 } }, peer: null, target: last },
]; // biome-ignore format: one LM a line

export const lmNames: readonly string[] = presets.map(({ name }) => name);

/** @throws Error naming the accepted ones */
export function benchLm(name: string): BenchLm {
  const found = presets.find((one) => one.name === name);
  if (found === undefined) throw new Error(`--lm "${name}" is not known; accepted: ${lmNames.join(', ')}`);
  return found;
}

/** A family's LM of another size. */
export function sizedLm(family: string, shape: Partial<LmShape>): BenchLm {
  const name = [family, ...Object.entries(shape).map(([key, value]) => `${key}${value}`)].join('-');
  return { name, source: { family, shape }, peer: null, target: last };
}

/** An LM that exists, in the layout of the Hugging Face Hub. */
export function ownLm(directory: string): BenchLm {
  return { name: basename(resolve(directory)), source: { directory }, peer: null, target: last };
}

const folder = join(process.env.PTUNED_CACHE ?? join(homedir(), '.cache', 'ptuned'), 'bench');

/** The folder of an LM; a generated one is written when it is not there. */
export function lmDirectory({ name, source }: BenchLm): string {
  if ('directory' in source) return source.directory;
  const { family, shape, cache = false } = source;
  const directory = join(folder, name);
  const done = join(directory, 'generated');
  if (existsSync(done)) return directory;
  mkdirSync(directory, { recursive: true });
  writeLm(directory, families.get(family)!, { shape, cache, seed: 1 });
  writeFileSync(done, '');
  return directory;
}

const imported = new Map<string, Promise<ModelManifest>>();

/** Its manifest, by the import that users run; once in a process, for it depends on the code. */
export function importedLm(lm: BenchLm): Promise<ModelManifest> {
  const directory = lmDirectory(lm);
  const manifest = imported.get(directory) ?? preflightModel(directory, { id: lm.name });
  imported.set(directory, manifest);
  return manifest;
}
