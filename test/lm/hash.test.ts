/** Hashes of an LM's files, made in a thread. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { hashFiles } from '../../src/lm/hash.ts';

const scratch = mkdtempSync(join(tmpdir(), 'ptuned-hash-'));
after(() => rmSync(scratch, { recursive: true, force: true }));

test('size and sha256 of each file, also of those longer than a piece and of empty ones', async () => {
  const sizes = [0, 1, (1 << 22) - 1, 1 << 22, (1 << 22) + 5];
  const names = sizes.map((size, i) => {
    writeFileSync(join(scratch, `f${i}`), Buffer.alloc(size, i + 1));
    return `f${i}`;
  });
  const expected = names.map((path, i) => {
    const sha256 = createHash('sha256')
      .update(readFileSync(join(scratch, path)))
      .digest('hex');
    return { path, bytes: sizes[i], sha256 };
  });
  assert.deepEqual(await hashFiles(scratch, names), expected);
});

test('a file that cannot be read, and work that is called off, reject', async () => {
  await assert.rejects(hashFiles(scratch, ['absent']), /ENOENT/);
  const off = new AbortController();
  const hashing = hashFiles(scratch, ['f0'], off.signal);
  off.abort();
  await assert.rejects(hashing, /stopped/);
});
