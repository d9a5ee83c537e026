/** design/reliability.md, 8: a fault at every I/O call, kill -9, and corruption; bad data is never served. */
import assert from 'node:assert/strict';
import { fork } from 'node:child_process';
import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { encodeId } from '../../src/artifacts/names.ts';
import { createArtifactStore } from '../../src/artifacts/store.ts';
import { PtunedError } from '../../src/errors.ts';
import { exampleFiles, exampleManifest } from '../support/artifact.ts';
import { type Fault, faultyDisk } from './faulty-disk.ts';

const id = 'ft:demo:local::1';
const manifest = exampleManifest({ id });
const files = exampleFiles(2, 8, 1);
const names = ['manifest.json', 'prompt.safetensors', 'encoder.safetensors'] as const;

async function withDirectory(use: (directory: string) => Promise<void>): Promise<void> {
  const directory = await mkdtemp(join(tmpdir(), 'ptuned-faults-'));
  try {
    await use(directory);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

/** 'none', or 'whole' after every byte was compared; anything else fails the test. */
async function inspect(directory: string): Promise<'none' | 'whole'> {
  const store = createArtifactStore(directory);
  try {
    const { table } = await store.loadPrompt(id);
    assert.deepEqual(table, (await reference()).table);
    assert.deepEqual(new Uint8Array(await store.readFile(id, 'encoder.safetensors')), files['encoder.safetensors']);
    return 'whole';
  } catch (error) {
    assert.ok(error instanceof PtunedError && error.code === 'model_not_found', String(error));
    return 'none';
  }
}

let loaded: Awaited<ReturnType<ReturnType<typeof createArtifactStore>['loadPrompt']>> | undefined;
async function reference() {
  await withDirectory(async (directory) => {
    const store = createArtifactStore(directory);
    if (loaded === undefined) await store.put(manifest, files);
    loaded ??= await store.loadPrompt(id);
  });
  return loaded!;
}

const kinds: Omit<Fault, 'at'>[] = (['once', 'forever'] as const).flatMap((lasting) =>
  (['before', 'after'] as const).map((effect) => ({ lasting, effect })),
);

for (const kind of kinds) {
  test(`put with a fault at each call (${kind.lasting}, ${kind.effect}): nothing or a whole artifact`, async () => {
    const seen = { none: 0, whole: 0 };
    for (let at = 0, done = false; !done; at++) {
      await withDirectory(async (directory) => {
        const { disk, calls } = faultyDisk({ ...kind, at });
        const outcome = await createArtifactStore(directory, disk)
          .put(manifest, files)
          .catch((error) => error);
        done = calls() <= at;
        if (outcome instanceof Error) {
          assert.ok(outcome instanceof PtunedError && outcome.code === 'storage_unavailable', String(outcome));
          seen[await inspect(directory)]++;
        } else assert.equal(await inspect(directory), 'whole');
        // A later attempt succeeds whatever was left behind.
        await createArtifactStore(directory).put(manifest, files);
        assert.equal(await inspect(directory), 'whole');
      });
    }
    assert.ok(seen.none >= 15 && seen.whole >= 1, JSON.stringify(seen));
  });

  test(`remove with a fault at each call (${kind.lasting}, ${kind.effect}): nothing or a whole artifact`, async () => {
    const seen = { none: 0, whole: 0 };
    for (let at = 0, done = false; !done; at++) {
      await withDirectory(async (directory) => {
        await createArtifactStore(directory).put(manifest, files);
        const { disk, calls } = faultyDisk({ ...kind, at });
        await createArtifactStore(directory, disk)
          .remove(id)
          .catch(() => undefined);
        done = calls() <= at;
        seen[await inspect(directory)]++;
      });
    }
    assert.ok(seen.none >= 1 && seen.whole >= 1, JSON.stringify(seen));
  });
}

test('a read that fails is storage_unavailable, not a wrong answer', async () => {
  await withDirectory(async (directory) => {
    await createArtifactStore(directory).put(manifest, files);
    for (let at = 0, done = false; !done; at++) {
      const { disk, calls } = faultyDisk({ at, lasting: 'once', effect: 'before' });
      const outcome = await createArtifactStore(directory, disk)
        .loadPrompt(id)
        .catch((error) => error);
      done = calls() <= at;
      if (!done) assert.ok(outcome instanceof PtunedError && outcome.code === 'storage_unavailable', String(outcome));
    }
  });
});

test('1,000 corruptions: refused as damaged, or what is served is what was stored', async () => {
  // A fixed sequence, so that a failure can be repeated.
  let state = 12345;
  const random = (below: number) => {
    state = (Math.imul(state, 1103515245) + 12345) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
  await withDirectory(async (directory) => {
    const store = createArtifactStore(directory);
    const written = await store.put(manifest, files);
    const original = await store.loadPrompt(id);
    await cp(join(directory, encodeId(id)!), join(directory, 'good'), { recursive: true });
    const contents = new Map<string, Buffer>();
    for (const name of names) contents.set(name, await readFile(join(directory, 'good', name)));
    let refused = 0;
    for (let round = 0; round < 1000; round++) {
      const name = names[round % names.length]!;
      const bytes = Buffer.from(contents.get(name)!);
      const damage = [
        () => bytes.subarray(0, random(bytes.length)),
        () => Buffer.concat([bytes, Buffer.from([random(256)])]),
        () => flip(bytes, random(bytes.length * 8)),
        () => flip(bytes, random(bytes.length * 8)),
        () => bytes.fill(0, random(bytes.length)),
      ];
      const path = join(directory, encodeId(id)!, name);
      await writeFile(path, damage[random(damage.length)]!());
      const outcomes = await Promise.allSettled([
        store.get(id).then((found) => assert.deepEqual(found, written)),
        store.loadPrompt(id).then((found) => assert.deepEqual(found, original)),
        store
          .readFile(id, 'encoder.safetensors')
          .then((found) => assert.deepEqual(new Uint8Array(found), files['encoder.safetensors'])),
      ]);
      for (const outcome of outcomes) {
        if (outcome.status === 'fulfilled') continue;
        refused++;
        const { reason } = outcome;
        assert.ok(reason instanceof PtunedError && reason.code === 'damaged_artifact', `${name}: ${reason}`);
      }
      await writeFile(path, contents.get(name)!);
    }
    assert.ok(refused > 1000, `${refused} reads refused`);
    assert.deepEqual(await store.loadPrompt(id), original);
  });
});

function flip(bytes: Buffer, bit: number): Buffer {
  bytes[bit >> 3]! ^= 1 << (bit & 7);
  return bytes;
}

test('a writer killed with -9 again and again leaves only whole artifacts', async () => {
  await withDirectory(async (directory) => {
    const writer = new URL('./writer.ts', import.meta.url).pathname;
    for (let round = 0; round < 4; round++) {
      const child = fork(writer, [directory, String(round)], { execArgv: ['--import', 'tsx'], stdio: 'ignore' });
      const exited = new Promise((resolve) => child.once('exit', resolve));
      await new Promise((resolve) => child.once('message', resolve));
      await sleep(20 + round * 23);
      child.kill('SIGKILL');
      await exited;
    }
    const store = createArtifactStore(directory);
    const { data } = await store.list('local', { limit: 100_000 });
    assert.ok(data.length >= 4, `${data.length} artifacts`);
    for (const found of data) {
      await store.loadPrompt(found.id);
      await store.readFile(found.id, 'encoder.safetensors');
    }
  });
});
