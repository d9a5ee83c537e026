/** Every method on an exported LM with a cache: it learns, and ends in the same bytes when killed and resumed. */
import assert from 'node:assert/strict';
import { cpSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { createArtifactStore } from '../../src/artifacts/store.ts';
import type { JobResult } from '../../src/jobs/contract.ts';
import { resolveMethod } from '../../src/jobs/defaults.ts';
import type { Method } from '../../src/jobs/method.ts';
import { importModel } from '../../src/lm/import.ts';
import type { ModelManifest } from '../../src/models/manifest.ts';
import { prefixWidth } from '../../src/models/past.ts';
import type { RenderedRow } from '../../src/tasks/types.ts';
import { realDependencies } from '../../src/tuning/dependencies.ts';
import { runTuning } from '../../src/tuning/run.ts';
import type { TuningDependencies, TuningHooks, TuningOutcome } from '../../src/tuning/types.ts';
import { writeTokenizer } from '../fixtures/tokenizers/build.ts';
import { fakeData, fakeJob, noise, recordingHooks, temporaryDirectory } from '../support/fake-tuning.ts';

const vocabulary = 48;
const pick = (limit: number, a: number, b: number): number => Math.floor(((noise(a, b) + 1) / 2) * limit);

/** Rows of words alone or between two pseudo tokens; the answer depends on the first word. */
function rowsOf(count: number, from: number, slots: number): RenderedRow[] {
  return Array.from({ length: count }, (_, i) => {
    const words = Array.from({ length: 2 + (i % 3) }, (_, k) => 5 + pick(vocabulary - 5, from + i, k));
    const own = [words, words.map(() => -1)] as const;
    const [ids, places] =
      slots === 0
        ? own
        : [
            [5, ...words, 5],
            [0, ...words.map(() => -1), 1],
          ];
    return { ids: [...ids], slots: [...places], target: ids.length - 1, label: words[0]! % 4, cut: 0 };
  });
}

async function importPast(t: TestContext): Promise<ModelManifest> {
  const folder = join(await temporaryDirectory(t), 'past-gpt2');
  cpSync(fileURLToPath(new URL('../fixtures/past/gpt2', import.meta.url)), folder, { recursive: true });
  // Rows are given as ids below; only the import wants a tokenizer.
  writeTokenizer('gpt2', folder);
  return importModel(folder);
}

function dependenciesOf(slots: number, tokens: number): TuningDependencies {
  const data = fakeData({
    train: rowsOf(40, 0, slots),
    dev: rowsOf(20, 0, slots),
    test: rowsOf(20, 200, slots),
    manual: { dev: rowsOf(20, 100, 0), test: rowsOf(20, 200, 0) },
    candidates: {
      count: 4,
      width: 1,
      ids: Int32Array.of(1, 2, 3, 4),
      weights: new Float32Array(4).fill(1),
      names: ['a', 'b', 'c', 'd'],
    },
    virtualTokens: tokens,
    vocabulary: {
      ordinary: () => Int32Array.from({ length: vocabulary - 5 }, (_, i) => i + 5),
      mask: null,
      texts: (ids) => ids.map((id) => `word${id}`),
    },
  });
  return { ...realDependencies, loadData: async () => data };
}

const template = [{ field: 'x' }, { target: 'y' }];
const slotted = [{ virtual: 1 }, { field: 'x' }, { virtual: 1 }, { target: 'y' }];
const hyperparameters = { max_steps: 60, evaluate_every: 10, learning_rate: 0.03 };
const cases: { name: string; method: Method; slots: number; tokens: number }[] = [
  {
    name: 'prompt_tuning',
    method: { type: 'prompt_tuning', prompt_tuning: { template: slotted, hyperparameters } },
    slots: 2,
    tokens: 2,
  },
  {
    name: 'prefix_tuning, keys and values',
    method: { type: 'prefix_tuning', prefix_tuning: { template, virtual_tokens: 4, hyperparameters } },
    slots: 0,
    tokens: 4,
  },
  {
    name: 'prefix_tuning, projection from random numbers',
    method: {
      type: 'prefix_tuning',
      prefix_tuning: {
        template,
        virtual_tokens: 3,
        initialization: 'random',
        encoder: { type: 'projection', hidden_width: 8 },
        hyperparameters,
      },
    },
    slots: 0,
    tokens: 3,
  },
  {
    name: 'autoprompt',
    method: {
      type: 'autoprompt',
      autoprompt: { template: slotted, candidates: 20, hyperparameters: { max_steps: 12, evaluate_every: 4 } },
    },
    slots: 2,
    tokens: 2,
  },
];

const resultOf = (outcome: TuningOutcome): JobResult => {
  assert.equal(outcome.kind, 'succeeded');
  return (outcome as { result: JobResult }).result;
};

for (const { name, method, slots, tokens } of cases) {
  test(`${name}: learns, and to the same bytes when killed and resumed`, async (t) => {
    const model = await importPast(t);
    const resolved = resolveMethod(method, { trainRows: 40, devRows: 20, width: model.embedding.width });
    const jobIn = (directory: string, attempt: number) => {
      const job = fakeJob(directory, {}, { attempt, model, checkpointSeconds: 0 });
      return { ...job, spec: { ...job.spec, model: model.id, modelHash: model.hash, seed: 5, method: resolved } };
    };
    const dependencies = dependenciesOf(slots, tokens);
    const whole = await temporaryDirectory(t);
    const told = recordingHooks();
    const result = resultOf(await runTuning(jobIn(whole, 1), told.hooks, dependencies));
    const losses = told.events.flatMap(({ data }) => (typeof data.valid_loss === 'number' ? [data.valid_loss] : []));
    assert.ok(result.tuned.dev.loss! < losses[0]! - 0.05, `${result.tuned.dev.loss} from ${losses[0]}`);

    const artifacts = createArtifactStore(join(whole, 'artifacts'));
    const { manifest, table, rows, width } = await artifacts.loadPrompt(jobIn(whole, 1).spec.fineTunedModel);
    const place = resolved.type === 'prefix_tuning' ? 'past' : 'embeddings';
    assert.equal(manifest.place, place);
    assert.deepEqual([rows, width], [tokens, place === 'past' ? prefixWidth(model.inputs) : model.embedding.width]);
    assert.ok(table.every(Number.isFinite));

    const interrupted = await temporaryDirectory(t);
    let outcome: TuningOutcome | null = null;
    let kills = 0;
    for (let attempt = 1; outcome === null; attempt++) {
      let beats = 0;
      const hooks: TuningHooks = {
        ...recordingHooks().hooks,
        heartbeat() {
          if (++beats === 30 + pick(30, attempt, 3)) throw new Error('killed');
        },
      };
      outcome = await runTuning(jobIn(interrupted, attempt), hooks, dependencies).catch((error: Error) => {
        assert.equal(error.message, 'killed');
        kills++;
        return null;
      });
    }
    assert.ok(kills > 0, 'it was never killed');
    const resumed = resultOf(outcome);
    assert.equal(resumed.promptSha256, result.promptSha256);
    assert.deepEqual([resumed.tuned, resumed.bestStep, resumed.words], [result.tuned, result.bestStep, result.words]);
  });
}

test('autoprompt: the result is words of the vocabulary, their embeddings the table, and the search loss never rises', async (t) => {
  const model = await importPast(t);
  const { method } = cases.at(-1)!;
  const resolved = resolveMethod(method, { trainRows: 40, devRows: 20, width: model.embedding.width });
  const directory = await temporaryDirectory(t);
  const job = fakeJob(directory, {}, { model });
  const dependencies = dependenciesOf(2, 2);
  const data = await dependencies.loadData(job);
  const told = recordingHooks();
  const spec = { ...job.spec, model: model.id, modelHash: model.hash, seed: 5, method: resolved };
  // All training rows are search rows; as dev they show what the search itself sees.
  const seen = { ...dependencies, loadData: async () => ({ ...data, dev: data.train }) };
  const result = resultOf(await runTuning({ ...job, spec }, told.hooks, seen));
  const metrics = told.events.filter(({ type }) => type === 'metrics');
  const losses = metrics.map(({ data: { valid_loss } }) => valid_loss as number);
  for (const [i, loss] of losses.entries()) assert.ok(i === 0 || loss <= losses[i - 1]! + 1e-6, losses.join(' '));
  assert.ok(losses.at(-1)! < losses[0]!);
  assert.equal(result.words!.length, 2);
  const ids = result.words!.map((word) => Number(word.slice('word'.length)));
  assert.ok(ids.every((id) => id >= 5 && id < vocabulary));
  const lm = await realDependencies.openLm(model, { threads: 1, device: 'cpu' });
  const embeddings = await lm.embeddings(ids);
  await lm.close();
  const { table } = await createArtifactStore(join(directory, 'artifacts')).loadPrompt(spec.fineTunedModel);
  assert.deepEqual(table, embeddings);
});
