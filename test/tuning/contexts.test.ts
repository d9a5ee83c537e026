/** Jobs whose rows have long texts before their first pseudo token: when they train behind these, and to which bytes. */
import assert from 'node:assert/strict';
import { cpSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { padBatch } from '../../src/data/batches.ts';
import type { JobResult } from '../../src/jobs/contract.ts';
import { resolveMethod } from '../../src/jobs/defaults.ts';
import { importModel } from '../../src/lm/import.ts';
import type { Past } from '../../src/lm/past.ts';
import type { Scorer, Trainer } from '../../src/lm/types.ts';
import type { ModelManifest } from '../../src/models/manifest.ts';
import type { RenderedRow } from '../../src/tasks/types.ts';
import { placeFor, takingContexts } from '../../src/tuning/contexts.ts';
import { realDependencies } from '../../src/tuning/dependencies.ts';
import { runTuning } from '../../src/tuning/run.ts';
import type { TuningDependencies, TuningHooks, TuningJob, TuningOutcome } from '../../src/tuning/types.ts';
import { writeTokenizer } from '../fixtures/tokenizers/build.ts';
import { fakeData, fakeJob, fakeManifest, noise, recordingHooks, temporaryDirectory } from '../support/fake-tuning.ts';

const vocabulary = 48;
const pick = (limit: number, a: number, b: number): number => Math.floor(((noise(a, b) + 1) / 2) * limit);

/** Words, then two pseudo tokens around one more, which the answer depends on. */
function rowsOf(count: number, from: number, before = 29): RenderedRow[] {
  return Array.from({ length: count }, (_, i) => {
    const words = Array.from({ length: before - (i % 3) }, (_, k) => 5 + pick(vocabulary - 5, from + i, k));
    const word = 5 + pick(vocabulary - 5, from + i, 99);
    const ids = [...words, 5, word, 5];
    const slots = [...words.map(() => -1), 0, -1, 1];
    return { ids, slots, target: ids.length - 1, label: word % 4, cut: 0 };
  });
}

const data = fakeData({
  train: rowsOf(40, 0),
  dev: rowsOf(20, 1000),
  test: rowsOf(10, 2000),
  candidates: {
    ...{ count: 4, width: 1, names: ['a', 'b', 'c', 'd'] },
    ids: Int32Array.of(1, 2, 3, 4),
    weights: new Float32Array(4).fill(1),
  },
  manual: null,
  virtualTokens: 2,
});
const dependencies: TuningDependencies = { ...realDependencies, loadData: async () => data };

async function importPast(t: TestContext): Promise<ModelManifest> {
  const folder = join(await temporaryDirectory(t), 'past-gpt2');
  cpSync(fileURLToPath(new URL('../fixtures/past/gpt2', import.meta.url)), folder, { recursive: true });
  // Rows are given as ids; only the import wants a tokenizer.
  writeTokenizer('gpt2', folder);
  return importModel(folder);
}

function jobOf(model: ModelManifest, directory: string, more: Partial<TuningJob>): TuningJob {
  const template = [{ field: 'x' }, { virtual: 1 }, { field: 'z' }, { virtual: 1 }, { target: 'y' }];
  const hyperparameters = { max_steps: 40, evaluate_every: 10, learning_rate: 0.03, batch_size: 8 };
  const method = resolveMethod(
    { type: 'prompt_tuning', prompt_tuning: { template, hyperparameters } },
    { trainRows: 40, devRows: 20, width: model.embedding.width },
  );
  const job = fakeJob(directory, {}, { model, checkpointSeconds: 0, ...more });
  return { ...job, spec: { ...job.spec, model: model.id, modelHash: model.hash, seed: 5, method } };
}

function resultOf(outcome: TuningOutcome): JobResult {
  assert.equal(outcome.kind, 'succeeded');
  return (outcome as { result: JobResult }).result;
}

test('a job behind contexts ends in the same bytes whatever is kept, killed and resumed too, and where whole rows lead', async (t) => {
  const model = await importPast(t);
  assert.equal(model.contexts, true);
  const told = recordingHooks();
  const runWith = async (more: Partial<TuningJob>, hooks: TuningHooks = recordingHooks().hooks) =>
    resultOf(await runTuning(jobOf(model, await temporaryDirectory(t), more), hooks, dependencies));
  const kept = await runWith({ contextBytes: 2 ** 20 }, told.hooks);
  assert.match(told.events.map(({ message }) => message).join('\n'), /keys and values are kept \(1 MiB at most\)/);
  const [first] = told.events.flatMap(({ data }) => (typeof data.valid_loss === 'number' ? [data.valid_loss] : []));
  assert.ok(kept.tuned.dev.loss! < first! - 0.05, `${kept.tuned.dev.loss} from ${first}`);
  // A token has 256 bytes: 287 kB would hold those of the training rows.
  const other = await runWith({ contextBytes: 200_000 });
  assert.equal(other.promptSha256, kept.promptSha256);
  assert.deepEqual(other.tuned, kept.tuned);

  const interrupted = await temporaryDirectory(t);
  let outcome: TuningOutcome | null = null;
  let kills = 0;
  for (let attempt = 1; outcome === null; attempt++) {
    let beats = 0;
    const heartbeat = () => {
      if (++beats === 12 + pick(12, attempt, 3)) throw new Error('killed');
    };
    // Another limit than the job began with is not heeded.
    const job = jobOf(model, interrupted, { attempt, contextBytes: attempt % 2 === 1 ? 2 ** 20 : 0 });
    outcome = await runTuning(job, { ...recordingHooks().hooks, heartbeat }, dependencies).catch((error: Error) => {
      assert.equal(error.message, 'killed');
      kills++;
      return null;
    });
  }
  assert.ok(kills > 1, `killed ${kills} times`);
  assert.equal(resultOf(outcome).promptSha256, kept.promptSha256);

  // Without a cache these tokens are computed apart; without that, as any other.
  const { contexts: _, ...uncached } = model;
  const { redundant: __, ...plain } = uncached;
  for (const [other, said] of [
    [uncached, true],
    [plain, false],
  ] as const) {
    const hooks = recordingHooks();
    const job = jobOf(other, await temporaryDirectory(t), {});
    const { tuned } = resultOf(await runTuning(job, hooks.hooks, dependencies));
    assert.ok(Math.abs(tuned.dev.loss! - kept.tuned.dev.loss!) < 1e-4 * kept.tuned.dev.loss!);
    assert.equal(
      hooks.events.some(({ message }) => message.endsWith('is computed without a gradient.')),
      said,
    );
  }
});

test('rows stand behind contexts where the LM takes them and that pays', () => {
  const past = { name: 'past_key_values.0.key', role: 'past' as const, dtype: 'float32', shape: ['b', 1, 'p', 4] };
  const model = {
    ...fakeManifest,
    ...{
      kind: 'causal' as const,
      redundant: 'prefixes' as const,
      contexts: true as const,
      inputs: [...fakeManifest.inputs, past],
    },
  };
  const { contexts: _, ...uncached } = model;
  const contextBytes = 2 ** 20;
  const placeOf = (job: Partial<TuningJob>, rows: RenderedRow[], place: 'embeddings' | 'past' = 'embeddings') =>
    placeFor(fakeJob('', {}, { model, contextBytes, ...job }), place, { ...data, train: rows });
  const long = rowsOf(40, 0, 100);
  assert.equal(placeOf({}, long), 'behind');
  assert.equal(placeOf({}, long, 'past'), 'past');
  assert.equal(placeOf({ model: { ...model, kind: 'masked' } }, long), 'embeddings');
  assert.equal(placeOf({ model: { ...uncached, redundant: 'padding' } }, long), 'embeddings');
  assert.equal(placeOf({ model: uncached }, long), 'apart');
  assert.equal(placeOf({ device: 'cuda' }, long), 'apart');
  const turned = long.map((row) => ({ ...row, slots: row.slots.toReversed() }));
  assert.equal(placeOf({}, turned), 'embeddings', 'pseudo tokens come first');
  assert.equal(placeOf({}, rowsOf(40, 0, 4)), 'embeddings', 'too short');
  // Short ones are read where that is once for many epochs.
  const short = rowsOf(40, 0, 22);
  assert.equal(placeOf({ contextBytes: 0 }, short), 'apart');
  assert.equal(placeOf({}, short), 'behind');
  // Where all rows begin alike, a batch computes that once, and contexts of their own would each be read.
  const [{ ids }] = long as [RenderedRow];
  const alike = long.map((row) => ({ ...row, ids: [...ids.slice(0, 90), ...row.ids.slice(90)] }));
  assert.equal(placeOf({}, alike), 'apart');
});

test('a long batch is scored in parts, and each part has its contexts', async () => {
  const rows = rowsOf(40, 0, 120);
  const { batch, labels } = padBatch(rows, 0);
  const seen: { rows: number; tokens: number }[] = [];
  const read = async (ids: readonly number[]): Promise<Past> => ({ tokens: ids.length, values: [] });
  const scorer: Scorer = {
    read,
    async score(part, its) {
      seen.push({ rows: part.rows, tokens: part.contexts!.reduce((sum, past) => sum + (past?.tokens ?? 0), 0) });
      const numbers = Int32Array.from(its, Number);
      return { loss: Float32Array.from(numbers), rank: numbers, best: numbers };
    },
    close: async () => {},
  };
  const trainer: Trainer = { step: () => Promise.reject(new Error('not asked')), close: async () => {} };
  const { loss, rank } = await takingContexts({ trainer, scorer }, 0).scorer.score(batch, labels, {
    ...{ rows: 2, width: 1 },
    values: new Float32Array(2),
  });
  assert.deepEqual([...rank], [...labels].map(Number));
  assert.deepEqual([...loss], [...labels].map(Number));
  assert.ok(seen.length > 1 && seen.every(({ tokens }) => tokens > 0 && tokens <= 2048));
  assert.equal(
    seen.reduce((sum, one) => sum + one.rows, 0),
    40,
  );
});
