import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import type { PtunedError } from '../../src/errors.ts';
import type { ResolvedPTuning } from '../../src/jobs/methods/p-tuning.ts';
import type { ModelManifest } from '../../src/models/manifest.ts';
import { loadTokenizer } from '../../src/tokenizer/load.ts';
import { loadTuningData } from '../../src/tuning/data.ts';
import { fakeJob, fakeManifest, temporaryDirectory } from '../support/fake-tuning.ts';

const directory = fileURLToPath(new URL('../../demo/models/demo-gpt2', import.meta.url));
const tokenizer = await loadTokenizer(directory);
const model: ModelManifest = { ...fakeManifest, directory, vocabularySize: tokenizer.vocabularySize };

const countries = ['Finland', 'France', 'Spain', 'Italy', 'Japan', 'Egypt', 'Peru', 'Cuba', 'Chad', 'Iran'];
const capitals = ['Helsinki', 'Paris', 'Madrid', 'Rome', 'Tokyo', 'Cairo', 'Lima', 'Havana', 'Helsinki', 'Paris'];
const template: ResolvedPTuning['template'] = [
  { virtual: 3, init: 'The capital of' },
  { field: 'country' },
  { virtual: 2, init: 'is' },
  { target: 'capital' },
];

async function load(
  t: TestContext,
  files: { train: unknown[]; dev?: unknown[]; test?: unknown[]; words?: string[] },
  method: Partial<ResolvedPTuning> = {},
) {
  const folder = await temporaryDirectory(t);
  const write = async (name: string, rows: unknown[] | undefined): Promise<string | null> => {
    if (rows === undefined) return null;
    const path = join(folder, name);
    await writeFile(path, rows.map((row) => (typeof row === 'string' ? row : JSON.stringify(row))).join('\n'));
    return path;
  };
  const job = fakeJob(folder, {}, { model });
  job.spec.method = { ...(job.spec.method as ResolvedPTuning), template, ...method };
  job.files = {
    train: (await write('train', files.train))!,
    dev: await write('dev', files.dev),
    test: await write('test', files.test),
    allowedWords: await write('words', files.words),
  };
  return { job, data: await loadTuningData(job) };
}

const facts = (from: number, to: number) =>
  countries.slice(from, to).map((country, i) => ({ country, capital: capitals[from + i] }));

test('rows of the files given, in tokens and slots, with the same rows in the words of the manual prompt', async (t) => {
  const { job, data } = await load(t, { train: facts(0, 6), dev: facts(6, 8), test: facts(8, 10) });
  assert.deepEqual([data.train.length, data.dev.length, data.test!.length], [6, 2, 2]);
  assert.equal(data.virtualTokens, 5);
  assert.equal(data.initial!.length, 5);
  const [row] = data.train;
  assert.deepEqual([...new Set(row!.slots)].sort(), [-1, 0, 1, 2, 3, 4]);
  assert.equal(tokenizer.decode([data.candidates.ids[row!.label]!]).trim(), 'Helsinki');
  assert.equal(tokenizer.decode(data.manual!.dev.at(1)!.ids), 'The capital of Cuba is');
  assert.ok([...data.manual!.test!].every(({ slots }) => slots.every((slot) => slot === -1)));
  assert.deepEqual(
    Array.from(data.manual!.test!, ({ label }) => label),
    Array.from(data.test!, ({ label }) => label),
  );
  const bytes = await readFile(job.files.train);
  assert.equal(data.hashes.train, createHash('sha256').update(bytes).digest('hex'));
  assert.equal(
    data.measure({ rank: Int32Array.of(0, 3), best: Int32Array.of(1, 1), labels: Int32Array.of(1, 2) }).p_at_1,
    0.5,
  );
});

test('without a dev file a fifth of the rows is split off, the same for the same seed', async (t) => {
  const { data } = await load(t, { train: facts(0, 10) });
  assert.equal(data.train.length, 8);
  assert.equal(data.dev.length, 2);
  const text = (ids: number[]): string => ids.join(' ');
  const all = new Set([...data.train, ...data.dev].map(({ ids }) => text(ids)));
  assert.equal(all.size, 10);
  assert.deepEqual(
    Array.from(data.manual!.dev, ({ label }) => label),
    Array.from(data.dev, ({ label }) => label),
  );
  assert.deepEqual([...(await load(t, { train: facts(0, 10) })).data.dev], [...data.dev]);
  assert.deepEqual(data.rows, {
    train: { used: 8, shortened: 0, dropped: 0 },
    dev: { used: 2, shortened: 0, dropped: 0 },
    test: { used: 0, shortened: 0, dropped: 0 },
  });
});

test('one row cannot be split', async (t) => {
  await assert.rejects(load(t, { train: facts(0, 1) }), (error: PtunedError) => {
    assert.equal(error.code, 'invalid_data');
    assert.equal(error.param, 'training_file');
    return true;
  });
});

test('rows whose target is not one token are dropped and counted where the task says so', async (t) => {
  const train = [...facts(0, 4), { country: 'Nowhere', capital: 'Xyzzyville-on-Sea' }, ...facts(4, 6)];
  const task: ResolvedPTuning['task'] = { type: 'cloze', metric: 'p_at_1', drop_multi_token: true };
  const { data } = await load(t, { train, dev: facts(6, 8) }, { task });
  assert.deepEqual(data.rows.train, { used: 6, shortened: 0, dropped: 1 });
  await assert.rejects(load(t, { train, dev: facts(6, 8) }), (error: PtunedError) => {
    assert.equal(error.code, 'target_not_one_token');
    assert.match(error.message, /Line 5/);
    return true;
  });
});

test('the words of allowed_words_file are the candidates', async (t) => {
  const { data } = await load(t, { train: facts(0, 6), dev: facts(6, 8), words: [...new Set(capitals)] });
  assert.deepEqual(data.candidates.names, [...new Set(capitals)]);
  assert.equal(data.candidates.names[data.dev.at(1)!.label], 'Havana');
});

test('without words in the template there is no manual prompt', async (t) => {
  const bare: ResolvedPTuning['template'] = [
    { virtual: 3 },
    { field: 'country' },
    { virtual: 2 },
    { target: 'capital' },
  ];
  const { data } = await load(t, { train: facts(0, 6) }, { template: bare });
  assert.equal(data.manual, null);
  assert.equal(data.initial, null);
});
