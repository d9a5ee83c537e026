import assert from 'node:assert/strict';
import { mkdir, mkdtemp, readdir, rename, rm, utimes } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { decodeId, encodeId } from '../../src/artifacts/names.ts';
import { encodePrompt } from '../../src/artifacts/prompt.ts';
import { type ArtifactStore, createArtifactStore } from '../../src/artifacts/store.ts';
import { type FailureCode, PtunedError } from '../../src/errors.ts';
import { exampleFiles, exampleManifest } from '../support/artifact.ts';

const id = 'ft:demo-causal:local:capitals:5b1c0a7e';

async function withStore(use: (store: ArtifactStore, directory: string) => Promise<void>): Promise<void> {
  const directory = await mkdtemp(join(tmpdir(), 'ptuned-artifacts-'));
  try {
    await use(createArtifactStore(directory), directory);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

const failsWith = (code: FailureCode) => (error: unknown) => error instanceof PtunedError && error.code === code;

test('what was put is got back, with hashes, and the table bit by bit', async () => {
  await withStore(async (store) => {
    const files = exampleFiles(2, 8, 1);
    const written = await store.put(exampleManifest({ id }), files);
    assert.deepEqual(
      written.files.map(({ path }) => path),
      ['encoder.safetensors', 'prompt.safetensors'],
    );
    assert.deepEqual(await store.get(id), written);
    const { manifest, table, rows, width } = await store.loadPrompt(id);
    assert.deepEqual(manifest, written);
    assert.deepEqual([rows, width], [2, 8]);
    assert.deepEqual(encodePrompt(table, rows, width), files['prompt.safetensors']);
    assert.deepEqual(new Uint8Array(await store.readFile(id, 'encoder.safetensors')), files['encoder.safetensors']);
  });
});

test('a manifest with odd label names survives (numbers, __proto__, line breaks)', async () => {
  await withStore(async (store) => {
    const base = exampleManifest({ id });
    const labels = JSON.parse('{"1":"yes","0":["no","Nein"],"__proto__":"x","a\\nb":"\\u2028 \\ud83d\\ude00"}');
    const task = { type: 'classification', metric: 'accuracy', labels } as const;
    await store.put({ ...base, method: { ...base.method, task } }, exampleFiles(2, 8, 1));
    assert.equal(JSON.stringify((await store.get(id)).method.task), JSON.stringify(task));
  });
});

test('ids become file names and back; paths are refused', async () => {
  for (const good of [id, `${id}:ckpt-step-120`, 'a', 'A.b_c-d', 'x'.repeat(255)]) {
    const name = encodeId(good);
    assert.ok(name !== null && !/[/\\:]/.test(name), good);
    assert.equal(decodeId(name), good);
  }
  const bad = ['', '.', '..', '../x', 'a/b', 'a\\b', '/etc', '.hidden', 'a\0', 'a%3Ab', 'a b', 'é', 'x'.repeat(256)];
  await withStore(async (store, directory) => {
    for (const name of bad) {
      assert.equal(encodeId(name), null, name);
      await assert.rejects(store.get(name), failsWith('model_not_found'));
      await assert.rejects(store.loadPrompt(name), failsWith('model_not_found'));
      await assert.rejects(store.remove(name), failsWith('model_not_found'));
      assert.equal(await store.version(name), null);
      await assert.rejects(
        store.put(exampleManifest({ id: name }), exampleFiles(2, 8, 1)),
        failsWith('invalid_request'),
      );
    }
    assert.deepEqual(await readdir(directory), []);
  });
});

test('the same content again is accepted, other content is a conflict', async () => {
  await withStore(async (store) => {
    const first = await store.put(exampleManifest({ id }), exampleFiles(2, 8, 1));
    // A resumed job has another clock, not another result.
    const again = await store.put(exampleManifest({ id, createdAt: 1_800_000_000 }), exampleFiles(2, 8, 1));
    assert.deepEqual(again, first);
    await assert.rejects(store.put(exampleManifest({ id }), exampleFiles(2, 8, 2)), failsWith('conflict'));
    await assert.rejects(store.put(exampleManifest({ id, seed: 35 }), exampleFiles(2, 8, 1)), failsWith('conflict'));
    assert.deepEqual(await store.get(id), first);
  });
});

test('writers of one id at the same time: one artifact, equal content accepted, other content refused', async () => {
  await withStore(async (_store, directory) => {
    const writers = Array.from({ length: 8 }, (_, i) =>
      createArtifactStore(directory).put(exampleManifest({ id }), exampleFiles(2, 8, i % 2)),
    );
    const outcomes = await Promise.allSettled(writers);
    const refused = outcomes.filter((outcome) => outcome.status === 'rejected');
    assert.equal(refused.length, 4);
    for (const { reason } of refused) assert.ok(failsWith('conflict')(reason), String(reason));
    await createArtifactStore(directory).loadPrompt(id);
    assert.deepEqual(await readdir(directory), [encodeId(id)]);
  });
});

test('what could not be served is not stored', async () => {
  await withStore(async (store, directory) => {
    const manifest = exampleManifest({ id });
    const { 'prompt.safetensors': prompt } = exampleFiles(2, 8, 1);
    const bad: Record<string, Uint8Array>[] = [
      {},
      exampleFiles(3, 8, 1),
      { 'prompt.safetensors': encodePrompt(Float32Array.of(Number.NaN), 1, 1) },
      { 'prompt.safetensors': encodePrompt(new Float32Array(16).fill(Number.NaN), 2, 8) },
      { 'prompt.safetensors': prompt!, '../x': prompt! },
      { 'prompt.safetensors': prompt!, 'manifest.json': prompt! },
    ];
    for (const files of bad) await assert.rejects(store.put(manifest, files), failsWith('damaged_artifact'));
    const wrong = { ...manifest, virtualTokens: undefined } as unknown as typeof manifest;
    await assert.rejects(store.put(wrong, exampleFiles(2, 8, 1)), failsWith('damaged_artifact'));
    assert.deepEqual(await readdir(directory), []);
  });
});

test('a damaged artifact is replaced by a good one', async () => {
  await withStore(async (store, directory) => {
    await store.put(exampleManifest({ id }), exampleFiles(2, 8, 1));
    await rm(join(directory, encodeId(id)!, 'prompt.safetensors'));
    await assert.rejects(store.loadPrompt(id), failsWith('damaged_artifact'));
    await store.put(exampleManifest({ id }), exampleFiles(2, 8, 1));
    await store.loadPrompt(id);
    assert.deepEqual(await readdir(directory), [encodeId(id)]);
  });
});

test('an artifact under another id than its own is not served', async () => {
  await withStore(async (store, directory) => {
    await store.put(exampleManifest({ id }), exampleFiles(2, 8, 1));
    await rename(join(directory, encodeId(id)!), join(directory, encodeId(`${id}:copy`)!));
    await assert.rejects(store.get(`${id}:copy`), failsWith('damaged_artifact'));
  });
});

test('lists an owner newest first, in pages, without damaged or foreign ones', async () => {
  await withStore(async (store, directory) => {
    assert.deepEqual(await store.list('local'), { data: [], hasMore: false });
    for (let i = 0; i < 5; i++) {
      await store.put(exampleManifest({ id: `ft:b:local::${i}`, createdAt: 100 + i }), exampleFiles(2, 8, i));
    }
    await store.put(exampleManifest({ id: 'ft:b:eve::9', owner: 'eve' }), exampleFiles(2, 8, 9));
    await rm(join(directory, encodeId('ft:b:local::1')!, 'manifest.json'));
    const ids = async (page?: { after?: string; limit?: number }) => {
      const { data, hasMore } = await store.list('local', page);
      return [data.map((manifest) => manifest.id.at(-1)).join(''), hasMore];
    };
    assert.deepEqual(await ids(), ['4320', false]);
    assert.deepEqual(await ids({ limit: 2 }), ['43', true]);
    assert.deepEqual(await ids({ limit: 2, after: 'ft:b:local::3' }), ['20', false]);
    await assert.rejects(store.list('local', { after: 'ft:b:eve::9' }), failsWith('invalid_request'));
    await store.remove('ft:b:local::3');
    assert.deepEqual(await ids(), ['420', false]);
    await assert.rejects(store.remove('ft:b:local::3'), failsWith('model_not_found'));
  });
});

test('the version changes with removal and replacement', async () => {
  await withStore(async (store) => {
    assert.equal(await store.version(id), null);
    await store.put(exampleManifest({ id }), exampleFiles(2, 8, 1));
    const first = await store.version(id);
    assert.equal(await store.version(id), first);
    await store.remove(id);
    assert.equal(await store.version(id), null);
    await store.put(exampleManifest({ id }), exampleFiles(2, 8, 2));
    assert.notEqual(await store.version(id), first);
  });
});

test('what a killed writer left is swept after an hour, not before', async () => {
  await withStore(async (_store, directory) => {
    for (const name of ['.tmp-old', '.tmp-young']) await mkdir(join(directory, name));
    const then = new Date(Date.now() - 2 * 3_600_000);
    await utimes(join(directory, '.tmp-old'), then, then);
    await createArtifactStore(directory).put(exampleManifest({ id }), exampleFiles(2, 8, 1));
    assert.deepEqual((await readdir(directory)).sort(), ['.tmp-young', encodeId(id)]);
  });
});
