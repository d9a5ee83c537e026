import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { mkdir, mkdtemp, readdir, readFile, rm, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { type TestContext, test } from 'node:test';
import { createFileStore, type FileStore } from '../../src/data/files.ts';

async function openStore(t: TestContext): Promise<{ store: FileStore; directory: string }> {
  const directory = await mkdtemp(join(tmpdir(), 'ptuned-files-'));
  t.after(() => rm(directory, { recursive: true, force: true }));
  return { store: createFileStore(directory), directory };
}

const about = { owner: 'local', filename: 'words.txt', purpose: 'fine-tune', limitBytes: 1e9 };

const upload = (store: FileStore, content: string | Buffer, more: Partial<typeof about> = {}) =>
  store.create(Readable.from([Buffer.from(content as string)]), { ...about, ...more });

test('an uploaded file is kept with what is known of it', async (t) => {
  const { store, directory } = await openStore(t);
  const content = randomBytes(300_000);
  const parts = [content.subarray(0, 100_000), content.subarray(100_000)];
  const file = await store.create(Readable.from(parts), about);
  assert.match(file.id, /^file-[0-9a-f]{24}$/);
  assert.deepEqual(
    [file.owner, file.filename, file.purpose, file.bytes, file.sha256],
    ['local', 'words.txt', 'fine-tune', 300_000, createHash('sha256').update(content).digest('hex')],
  );
  assert.ok(Math.abs(file.createdAt - Date.now() / 1000) < 60);
  assert.deepEqual(await buffer(store.content(file)), content);
  assert.deepEqual(await readFile(store.path(file.id)), content);
  // Another process finds the same.
  assert.deepEqual(await createFileStore(directory).get(file.id, 'local'), file);
});

test('a file that is called JSONL has rows to its end, or nothing of it is kept', async (t) => {
  const { store, directory } = await openStore(t);
  const rows = '\uFEFF{"a": 1}\r\n\n{"b": "ü"}';
  const file = await upload(store, rows, { filename: 'Rows.JSONL' });
  assert.equal((await buffer(store.content(file))).toString(), rows);
  const broken = Readable.from([Buffer.from('{"a": 1}\n{"a"'), Buffer.from(': 2\n{}')]);
  await assert.rejects(store.create(broken, { ...about, filename: 'rows.jsonl' }), {
    code: 'invalid_json',
    param: 'file',
    message: /^file: Line 2.* is not JSON/,
  });
  const unfit = Readable.from([Buffer.from('{}\n'), Buffer.from([0x7b, 0xff, 0x7d])]);
  await assert.rejects(store.create(unfit, { ...about, filename: 'rows.jsonl' }), {
    message: /^file: Line 2 is not UTF-8/,
  });
  assert.deepEqual(await readdir(join(directory, 'files')), [file.id]);
});

test("another owner's file is as if it were not there", async (t) => {
  const { store } = await openStore(t);
  const file = await upload(store, 'x');
  assert.equal(await store.get(file.id, 'other'), null);
  assert.equal(await store.remove(file.id, 'other'), false);
  assert.deepEqual(await store.list('other', { limit: 10 }), { files: [], hasMore: false });
  assert.deepEqual(await store.get(file.id, 'local'), file);
});

test('an id that the store did not make leads nowhere', async (t) => {
  const { store, directory } = await openStore(t);
  await mkdir(join(directory, 'secret'));
  await writeFile(join(directory, 'secret', 'meta.json'), JSON.stringify({ owner: 'local' }));
  for (const id of ['../secret', 'file-../../secret', '', '.', 'file-0123', `file-${'0'.repeat(24)}`]) {
    assert.equal(await store.get(id, 'local'), null, id);
    assert.equal(await store.remove(id, 'local'), false, id);
  }
  assert.throws(() => store.path('../secret'), { code: 'file_not_found' });
});

test('files are listed newest first, page by page', async (t) => {
  const { store, directory } = await openStore(t);
  assert.deepEqual(await store.list('local', { limit: 2 }), { files: [], hasMore: false });
  const ids: string[] = [];
  for (let i = 0; i < 5; i++) ids.unshift((await upload(store, `${i}`)).id);
  await upload(store, 'y', { owner: 'other' });
  for (const one of [store, createFileStore(directory)]) {
    const first = await one.list('local', { limit: 2 });
    assert.deepEqual([first.files.map(({ id }) => id), first.hasMore], [ids.slice(0, 2), true]);
    const last = await one.list('local', { limit: 3, after: ids[1]! });
    assert.deepEqual([last.files.map(({ id }) => id), last.hasMore], [ids.slice(2), false]);
  }
  await assert.rejects(store.list('local', { limit: 2, after: 'file-0' }), { code: 'invalid_request', param: 'after' });
});

test('a removed file is gone, also for a store that has listed it', async (t) => {
  const { store, directory } = await openStore(t);
  const other = createFileStore(directory);
  const file = await upload(store, 'x');
  assert.equal((await other.list('local', { limit: 9 })).files.length, 1);
  const removals = await Promise.all([store.remove(file.id, 'local'), other.remove(file.id, 'local')]);
  assert.deepEqual(removals.sort(), [false, true]);
  assert.equal(await other.get(file.id, 'local'), null);
  assert.deepEqual(await other.list('local', { limit: 9 }), { files: [], hasMore: false });
  assert.deepEqual(await readdir(join(directory, 'files')), []);
});

test('of an upload that fails nothing is left', async (t) => {
  const { store, directory } = await openStore(t);
  await assert.rejects(upload(store, 'x'.repeat(11), { limitBytes: 10 }), {
    code: 'payload_too_large',
    message: /larger than 10 bytes/,
  });
  assert.equal((await upload(store, 'x'.repeat(10), { limitBytes: 10 })).bytes, 10);
  await assert.rejects(upload(store, ''), { code: 'empty_file', param: 'file' });
  async function* broken(): AsyncGenerator<Buffer> {
    yield Buffer.from('{"a": 1}\n');
    throw new Error('the client is gone');
  }
  await assert.rejects(store.create(Readable.from(broken()), about), { message: 'the client is gone' });
  assert.equal((await readdir(join(directory, 'files'))).length, 1);
  assert.equal((await store.list('local', { limit: 9 })).files.length, 1);
});

test('an endless upload is stopped at its limit', async (t) => {
  const { store } = await openStore(t);
  let sent = 0;
  async function* endless(): AsyncGenerator<Buffer> {
    for (;;) {
      sent += 1 << 16;
      yield Buffer.alloc(1 << 16);
    }
  }
  await assert.rejects(store.create(Readable.from(endless()), { ...about, limitBytes: 1 << 20 }), {
    code: 'payload_too_large',
  });
  assert.ok(sent < 4 << 20, `${sent}`);
});

test('what a killed process left behind is swept, what is being written is not', async (t) => {
  const { store, directory } = await openStore(t);
  const root = join(directory, 'files');
  for (const name of ['.tmp-old', '.tmp-new']) await mkdir(join(root, name), { recursive: true });
  const past = new Date(Date.now() - 48 * 3_600_000);
  await utimes(join(root, '.tmp-old'), past, past);
  await upload(store, 'x');
  const names = await readdir(root);
  assert.deepEqual([names.includes('.tmp-old'), names.includes('.tmp-new')], [false, true]);
  assert.equal((await store.list('local', { limit: 9 })).files.length, 1);
});

test('a disk that cannot be written is storage_unavailable', async (t) => {
  const { directory } = await openStore(t);
  await writeFile(join(directory, 'files'), 'a file where the folder should be');
  const store = createFileStore(directory);
  await assert.rejects(store.list('local', { limit: 9 }), { code: 'storage_unavailable' });
  await assert.rejects(upload(store, 'x'), { code: 'storage_unavailable' });
});
