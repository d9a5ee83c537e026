import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import fs from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { PtunedError } from '../../src/errors.ts';
import { preflightModel } from '../../src/models/preflight.ts';

const script = fileURLToPath(new URL('../fixtures/greedy-import.ts', import.meta.url));
const models = fileURLToPath(new URL('../../demo/models', import.meta.url));

/** Processes whose arguments hold this text and that are not this test. */
function others(text: string): string[] {
  const rows = execFileSync('ps', ['-eo', 'ppid=,stat=,args=']).toString().split('\n');
  return rows.filter(
    (row) => row.includes(text) && row.trim().startsWith(`${process.pid} `) && !/^\s*\d+\s+Z/.test(row),
  );
}

async function refusal(work: Promise<unknown>): Promise<PtunedError> {
  const error = await work.then(
    () => assert.fail('was not refused'),
    (thrown) => thrown,
  );
  assert.ok(error instanceof PtunedError, String(error));
  return error;
}

test('yields the manifest of an LM, under the id asked for', async () => {
  const manifest = await preflightModel(join(models, 'demo-bert'), { id: 'mine' });
  assert.equal(manifest.id, 'mine');
  assert.equal(manifest.kind, 'masked');
  assert.equal(manifest.directory, join(models, 'demo-bert'));
});

test('passes on what the import refuses', async () => {
  const folder = await fs.mkdtemp(join(tmpdir(), 'ptuned-preflight-'));
  try {
    const error = await refusal(preflightModel(folder));
    assert.equal(error.code, 'missing_file');
    assert.match(error.message, /tokenizer\.json/);
  } finally {
    await fs.rm(folder, { recursive: true });
  }
});

test('stops an import that needs too much memory or time, and outlives one that dies', async () => {
  const memory = await refusal(preflightModel('/nowhere/memory', { script, megabytes: 400, seconds: 30 }));
  assert.equal(memory.code, 'import_refused');
  assert.match(memory.message, /more than 400 MB/);
  const time = await refusal(preflightModel('/nowhere/time', { script, seconds: 1.5 }));
  assert.equal(time.code, 'import_refused');
  assert.match(time.message, /longer than 1\.5 s/);
  const crash = await refusal(preflightModel('/nowhere/crash', { script }));
  assert.equal(crash.code, 'damaged_model');
  assert.match(crash.message, /SIGABRT/);
  const silent = await refusal(preflightModel('/nowhere/silent', { script }));
  assert.match(silent.message, /exit code 0/);
  await new Promise((resolve) => setTimeout(resolve, 200));
  assert.deepEqual(others('greedy-import'), []);
});
