import assert from 'node:assert/strict';
import fs from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { type TestContext, test } from 'node:test';
import { setTimeout } from 'node:timers/promises';
import { createFileStore } from '../../src/data/files.ts';
import { createThreadedValidator } from '../../src/jobs/threaded-validator.ts';
import { importModel } from '../../src/lm/import.ts';
import { createModelRegistry } from '../../src/models/registry.ts';

const template = [{ virtual: 3 }, { field: 'country' }, { target: 'capital' }];

async function prepare(t: TestContext) {
  const data = await fs.mkdtemp(join(tmpdir(), 'ptuned-validate-'));
  const validator = createThreadedValidator(data);
  t.after(async () => {
    await validator.close();
    await fs.rm(data, { recursive: true, force: true });
  });
  const model = await importModel(resolve('demo/models/demo-gpt2'), { id: 'demo-gpt2' });
  await createModelRegistry(data).put(model);
  const store = createFileStore(data);
  const upload = async (rows: object[]) => {
    const { Readable } = await import('node:stream');
    const about = { owner: 'me', filename: 'rows.jsonl', purpose: 'fine-tune', limitBytes: 1 << 30 };
    const content = Buffer.from(rows.map((row) => JSON.stringify(row)).join('\n'));
    return (await store.create(Readable.from([content]), about)).id;
  };
  const validate = (file: string) =>
    validator.validate(
      { model: model.id, training_file: file, method: { type: 'p_tuning', p_tuning: { template } } },
      'me',
    );
  return { upload, validate };
}

const facts = (count: number) => Array.from({ length: count }, () => ({ country: 'Norway', capital: 'Oslo' }));

test('a job is validated in another thread, as in this one', async (t) => {
  const { upload, validate } = await prepare(t);
  const { findings, spec } = await validate(await upload(facts(10)));
  assert.equal(findings.files.training.used, 10);
  assert.equal(spec.model, 'demo-gpt2');
  assert.ok(findings.candidates > 100);
  await assert.rejects(validate(await upload([...facts(3), { country: 'Norway' }])), {
    code: 'invalid_data',
    param: 'training_file',
    message: /Line 4: Field "capital" is missing/,
  });
  await assert.rejects(validate(`file-${'0'.repeat(24)}`), { code: 'file_not_found' });
});

test('while a big file is read this thread is free, and a small one is answered before it', async (t) => {
  const { upload, validate } = await prepare(t);
  const [big, small] = [await upload(facts(40_000)), await upload(facts(4))];
  await validate(small);
  let longest = 0;
  let isOver = false;
  const order: string[] = [];
  const watching = (async () => {
    for (let last = performance.now(); !isOver; last = performance.now()) {
      await setTimeout(1);
      longest = Math.max(longest, performance.now() - last);
    }
  })();
  await Promise.all([
    validate(big).then(() => order.push('big')),
    setTimeout(20).then(() => validate(small).then(() => order.push('small'))),
  ]);
  isOver = true;
  await watching;
  assert.deepEqual(order, ['small', 'big']);
  // Far below what validating takes; a busy machine may take some of it.
  assert.ok(longest < 400, `${longest} ms`);
});
