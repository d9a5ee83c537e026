/**
 * Checkpoints on disk, one folder each: `<attempt>-<sequence>/{state.safetensors, checkpoint.json}`.
 * A folder is written under another name, synced and renamed, so it is there whole or not at all; checkpoint.json holds
 * the sha256 of the tensors and of itself, so later damage shows too. The newest two are kept: if the last is damaged,
 * the one before it is still good. An empty folder `attempt-<attempt>` says that an attempt has begun: older ones, which
 * may only be frozen, then write nothing more.
 */
import fs from 'node:fs/promises';
import { join } from 'node:path';
import { type Disk, orNull, readBounded, syncDirectory, systemCode, writeDurably } from '../artifacts/disk.ts';
import { sha256 } from '../artifacts/manifest.ts';
import { PtunedError } from '../errors.ts';

export interface StoredCheckpoint {
  tensors: Uint8Array;
  /** JSON-serialisable. */
  record: unknown;
}

interface Place {
  name: string;
  attempt: number;
  sequence: number;
}

const placePattern = /^(\d{6})-(\d{8})$/;
const attemptPattern = /^attempt-(\d{6})$/;
const longestFile = 2 ** 40;

/** Makes this attempt the newest. Throws `conflict` when a newer one has begun. */
export async function claim(directory: string, attempt: number, disk: Disk = fs): Promise<void> {
  await disk.mkdir(join(directory, `attempt-${padded(attempt, 6)}`), { recursive: true });
  await checkNewest(directory, attempt, disk);
}

/**
 * Throws `conflict` when a newer attempt has begun: this process was taken for dead and its output no longer counts.
 * Returns the names in the directory.
 */
export async function checkNewest(directory: string, attempt: number, disk: Disk = fs): Promise<string[]> {
  const names = (await orNull(disk.readdir(directory))) ?? [];
  const newest = Math.max(attempt, ...names.map((name) => Number(attemptPattern.exec(name)?.[1] ?? 0)));
  if (newest === attempt) return names;
  throw new PtunedError('conflict', `Attempt ${attempt} was superseded by attempt ${newest}.`);
}

/** Writes a checkpoint and removes all but the one before it. Throws as checkNewest; system errors pass as they are. */
export async function writeCheckpoint(
  directory: string,
  attempt: number,
  { tensors, record }: StoredCheckpoint,
  disk: Disk = fs,
): Promise<void> {
  await disk.mkdir(directory, { recursive: true });
  const names = await checkNewest(directory, attempt, disk);
  const places = placesIn(names);
  for (const left of names.filter((name) => name.startsWith('.'))) await remove(disk, join(directory, left));
  const name = `${padded(attempt, 6)}-${padded((places.at(-1)?.sequence ?? 0) + 1, 8)}`;
  const temporary = join(directory, `.${name}`);
  await disk.mkdir(temporary, { recursive: true });
  await writeDurably(disk, join(temporary, 'state.safetensors'), tensors);
  await writeDurably(disk, join(temporary, 'checkpoint.json'), seal({ tensors: sha256(tensors), record }));
  await syncDirectory(disk, temporary);
  await disk.rename(temporary, join(directory, name));
  await syncDirectory(disk, directory);
  for (const old of places.slice(0, -1)) await remove(disk, join(directory, old.name));
}

/**
 * The newest checkpoint that is whole, or null. Damaged ones are removed and named in `damaged`; one that the system
 * cannot read now is passed over and stays.
 */
export async function readCheckpoint(
  directory: string,
  disk: Disk = fs,
): Promise<{ checkpoint: StoredCheckpoint | null; damaged: string[] }> {
  const damaged: string[] = [];
  for (const { name } of placesIn((await orNull(disk.readdir(directory))) ?? []).reverse()) {
    const path = join(directory, name);
    try {
      const checkpoint = await readWhole(disk, path);
      if (checkpoint !== null) return { checkpoint, damaged };
    } catch (error) {
      if (systemCode(error) === null) throw error;
      continue;
    }
    damaged.push(name);
    await remove(disk, path);
  }
  return { checkpoint: null, damaged };
}

/** Null when anything is missing or does not have its hash. */
async function readWhole(disk: Disk, path: string): Promise<StoredCheckpoint | null> {
  const json = await readBounded(disk, join(path, 'checkpoint.json'), longestFile);
  const sealed = json === null ? null : unseal(json);
  if (sealed === null) return null;
  const tensors = await readBounded(disk, join(path, 'state.safetensors'), longestFile);
  return tensors !== null && sha256(tensors) === sealed.tensors ? { tensors, record: sealed.record } : null;
}

function placesIn(names: string[]): Place[] {
  const places: Place[] = [];
  for (const name of names) {
    const match = placePattern.exec(name);
    if (match !== null) places.push({ name, attempt: Number(match[1]), sequence: Number(match[2]) });
  }
  return places.sort((a, b) => a.attempt - b.attempt || a.sequence - b.sequence);
}

function padded(value: number, digits: number): string {
  return String(value).padStart(digits, '0');
}

async function remove(disk: Disk, path: string): Promise<void> {
  await disk.rm(path, { recursive: true, force: true });
}

/** The JSON behind a line with its own sha256. */
function seal(content: { tensors: string; record: unknown }): Uint8Array {
  const body = JSON.stringify(content);
  return Buffer.from(`${sha256(body)}\n${body}`);
}

function unseal(bytes: Uint8Array): { tensors: string; record: unknown } | null {
  const text = Buffer.from(bytes).toString('utf8');
  const body = text.slice(65);
  return text.slice(0, 65) === `${sha256(body)}\n` ? JSON.parse(body) : null;
}
