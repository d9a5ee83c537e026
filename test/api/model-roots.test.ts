/** LMs are registered only from folders inside the roots, whatever the path looks like. */
import assert from 'node:assert/strict';
import { mkdir, mkdtemp, realpath, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { resolveModelFolder } from '../../src/api/model-roots.ts';

let base: string;
let root: string;

before(async () => {
  base = await realpath(await mkdtemp(join(tmpdir(), 'ptuned-roots-')));
  root = join(base, 'models');
  await mkdir(join(root, 'lm'), { recursive: true });
  await mkdir(join(base, 'models-secret', 'lm'), { recursive: true });
  await writeFile(join(root, 'file'), 'x');
  await symlink(join(base, 'models-secret', 'lm'), join(root, 'link-out'));
  await symlink(join(root, 'lm'), join(base, 'link-in'));
});

after(() => rm(base, { recursive: true }));

test('a folder inside a root is accepted by absolute and relative path, and through a link that leads in', async () => {
  for (const path of [join(root, 'lm'), 'models/lm', 'lm', join(base, 'link-in'), join(root, 'x', '..', 'lm')]) {
    assert.equal(await resolveModelFolder(path, [root], base), join(root, 'lm'), path);
  }
  assert.equal(await resolveModelFolder(root, [root], base), root);
});

test('what lies outside, does not exist or is no folder is refused alike, naming the roots', async () => {
  const outside = [
    join(base, 'models-secret', 'lm'),
    join(root, '..', 'models-secret', 'lm'),
    join(root, 'link-out'),
    join(root, 'file'),
    join(root, 'absent'),
    '/etc',
    '../../etc',
    'lm\0',
  ];
  for (const path of outside) {
    await assert.rejects(resolveModelFolder(path, [root], base), (error: Error & { code?: string }) => {
      assert.equal(error.code, 'import_refused');
      assert.ok(error.message.includes(`an existing folder inside ${root}`), error.message);
      return true;
    });
  }
});
