import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { decodeSafetensors } from '../../src/artifacts/safetensors.ts';
import { createArtifactStore } from '../../src/artifacts/store.ts';
import type { PtunedError } from '../../src/errors.ts';
import type { JobResult } from '../../src/jobs/contract.ts';
import { hashTable } from '../../src/tuning/publish.ts';
import { runTuning } from '../../src/tuning/run.ts';
import type { TuningOutcome } from '../../src/tuning/types.ts';
import {
  fakeDependencies,
  fakeJob,
  fakeRows,
  recordingHooks,
  temporaryDirectory,
  virtualTokens,
  width,
} from '../support/fake-tuning.ts';

const id = fakeJob('').spec.fineTunedModel;

function resultOf(outcome: TuningOutcome): JobResult {
  assert.equal(outcome.kind, 'succeeded');
  return (outcome as Extract<TuningOutcome, { kind: 'succeeded' }>).result;
}

test('a run trains, beats the untrained prompt, and stores what it reports', async (t) => {
  const directory = await temporaryDirectory(t);
  const told = recordingHooks();
  const result = resultOf(await runTuning(fakeJob(directory), told.hooks, fakeDependencies()));

  const evaluations = told.events.filter(({ type }) => type === 'metrics').map(({ data }) => data);
  const scores = evaluations.map(({ p_at_1 }) => p_at_1 as number);
  assert.equal(evaluations[0]!.step, 0);
  assert.equal(evaluations.length, 11);
  assert.equal(result.steps, 60);
  assert.equal(result.tuned.dev.p_at_1, Math.max(...scores));
  const losses = evaluations.map(({ valid_loss }) => valid_loss as number);
  const highest = losses.filter((_, k) => scores[k] === Math.max(...scores));
  assert.equal(result.bestStep, evaluations[losses.indexOf(Math.min(...highest))]!.step);
  assert.ok(result.tuned.dev.p_at_1! > scores[0]! + 0.15, `${result.tuned.dev.p_at_1} against ${scores[0]}`);
  assert.ok(result.tuned.test!.p_at_1! > result.manual!.test!.p_at_1!);
  assert.ok(result.tuned.test!.loss! < 0.5 * result.manual!.test!.loss!);
  assert.ok(result.secondsPerStep > 0 && result.seconds >= result.secondsPerStep * result.steps);

  const store = createArtifactStore(join(directory, 'artifacts'));
  const { table, manifest } = await store.loadPrompt(id);
  assert.equal(hashTable(table), result.promptSha256);
  assert.deepEqual(manifest.result, result);
  assert.equal(manifest.step, result.bestStep);
  const encoder = decodeSafetensors(await store.readFile(id, 'encoder.safetensors'));
  assert.deepEqual(encoder.get('embedding.weight')!.shape, [virtualTokens, width]);
  assert.equal(encoder.has('base'), false);
});

test('test is scored once, after training, by the best dev prompt and the manual one', async (t) => {
  const rows = { dev: 30, test: 17 };
  const scored: string[] = [];
  const names = new Map([
    [rows.dev, 'dev'],
    [rows.test, 'test'],
  ]);
  const dependencies = fakeDependencies({ data: { test: fakeRows(17, 200), manual: null } });
  const openLm = dependencies.openLm;
  dependencies.openLm = async (...options) => {
    const lm = await openLm(...options);
    return {
      ...lm,
      async scorer(candidates) {
        const scorer = await lm.scorer(candidates);
        return {
          ...scorer,
          score(batch, labels, table) {
            scored.push(names.get(batch.rows)!);
            return scorer.score(batch, labels, table);
          },
        };
      },
    };
  };
  const told = recordingHooks();
  const job = fakeJob(await temporaryDirectory(t), { n_epochs: 3 });
  const result = resultOf(await runTuning(job, told.hooks, dependencies));
  assert.deepEqual(scored, ['dev', 'dev', 'dev', 'dev', 'test']);
  assert.equal(result.manual, null);
});

test('without a test file there are no test figures', async (t) => {
  const job = fakeJob(await temporaryDirectory(t), { n_epochs: 1 });
  const data = { test: null, manual: { dev: fakeRows(30, 100, false), test: null } };
  const result = resultOf(await runTuning(job, recordingHooks().hooks, fakeDependencies({ data })));
  assert.equal(result.tuned.test, null);
  assert.equal(result.manual!.test, null);
});

test('pseudo tokens start from their words, the others from the mean embedding', async (t) => {
  const directory = await temporaryDirectory(t);
  const dependencies = fakeDependencies({ data: { initial: [null, 7, 9] } });
  await runTuning(fakeJob(directory, { n_epochs: 1 }), recordingHooks().hooks, dependencies);
  const bytes = await createArtifactStore(join(directory, 'artifacts')).readFile(id, 'encoder.safetensors');
  const lm = await dependencies.openLm(fakeJob('').model, { threads: 1, device: 'cpu' });
  const expected = [...(await lm.meanEmbedding()), ...(await lm.embeddings([7, 9]))];
  const base = decodeSafetensors(bytes).get('base')!;
  assert.deepEqual([...(base.data as Float32Array)], expected);
  assert.deepEqual(base.shape, [3, width]);
});

test('the same seed gives the same bytes, another seed others', async (t) => {
  const hashes: string[] = [];
  for (const seed of [34, 34, 35]) {
    const job = fakeJob(await temporaryDirectory(t), { n_epochs: 3 });
    job.spec.seed = seed;
    hashes.push(resultOf(await runTuning(job, recordingHooks().hooks, fakeDependencies())).promptSha256);
  }
  assert.equal(hashes[0], hashes[1]);
  assert.notEqual(hashes[0], hashes[2]);
});

test('early stopping ends the run after evaluations without a gain', async (t) => {
  const told = recordingHooks();
  const job = fakeJob(await temporaryDirectory(t), { n_epochs: 200, patience: 2, learning_rate: 1e-12 });
  const result = resultOf(await runTuning(job, told.hooks, fakeDependencies()));
  assert.equal(result.bestStep, 0);
  assert.equal(result.steps, 12);
  assert.ok(told.events.some(({ level, message }) => level === 'warn' && message.includes('untrained')));
});

test('evaluations every so many steps, at the last step too, and max_steps', async (t) => {
  const told = recordingHooks();
  const job = fakeJob(await temporaryDirectory(t), { evaluate_every: 4, max_steps: 10, gradient_clip: 0.5 });
  assert.equal(resultOf(await runTuning(job, told.hooks, fakeDependencies())).steps, 10);
  const steps = told.events.filter(({ type }) => type === 'metrics').map(({ data }) => data.step);
  assert.deepEqual(steps, [0, 4, 8, 10]);
});

test('the best and the last three checkpoint models are kept, each the table of its step', async (t) => {
  const directory = await temporaryDirectory(t);
  const told = recordingHooks();
  const result = resultOf(await runTuning(fakeJob(directory), told.hooks, fakeDependencies()));
  const store = createArtifactStore(join(directory, 'artifacts'));
  const kept = (await store.list('local')).data.map((manifest) => manifest.id).sort();
  const steps = [...new Set([result.bestStep, 48, 54, 60])];
  assert.deepEqual(kept, [id, ...steps.map((step) => `${id}:ckpt-step-${step}`)].sort());
  assert.equal(told.checkpoints.length, 10);
  assert.equal(told.removed.length, 10 - steps.length);
  const best = await store.loadPrompt(`${id}:ckpt-step-${result.bestStep}`);
  assert.equal(hashTable(best.table), result.promptSha256);
  assert.equal(best.manifest.result, null);
  assert.ok(best.manifest.metrics.train_loss! > 0 && best.manifest.metrics.valid_loss! > 0);
});

test('progress is reported once a second at most, with the time left', async (t) => {
  let clock = 0;
  const told = recordingHooks();
  // Every batch of the LM takes a quarter of a second on this clock.
  const dependencies = fakeDependencies({ now: () => clock, onBatch: () => void (clock += 250) });
  await runTuning(fakeJob(await temporaryDirectory(t), { n_epochs: 4 }), told.hooks, dependencies);
  const training = told.progress.filter(({ loss }) => loss !== null);
  assert.deepEqual(
    training.map(({ step }) => step),
    [4, 6, 10, 12, 16, 18, 22, 24],
  );
  const [first] = training;
  assert.equal(first!.secondsPerStep, 0.25);
  assert.equal(first!.secondsLeft, 20 * 0.25 + 4 * 0.25);
  assert.equal(first!.epoch, 0);
  assert.equal(training.at(-1)!.secondsLeft, 0);
  assert.ok(training.at(-1)!.trainedTokens > 4 * 45 * 5);
});

for (const [what, loss] of [
  ['NaN', Number.NaN],
  ['Infinity', Number.POSITIVE_INFINITY],
] as const) {
  test(`a loss of ${what} fails the job with step and learning rate; the last checkpoint stays`, async (t) => {
    const directory = await temporaryDirectory(t);
    const dependencies = fakeDependencies({ lossAt: (step) => (step === 8 ? loss : null) });
    const failed = runTuning(fakeJob(directory), recordingHooks().hooks, dependencies);
    await assert.rejects(failed, (error: PtunedError) => {
      assert.equal(error.code, 'loss_not_finite');
      assert.deepEqual(error.details, { step: 9, learning_rate: 0.02 * 0.98 });
      assert.match(error.message, /at step 9 with learning rate 0\.0196/);
      return true;
    });
    const store = createArtifactStore(join(directory, 'artifacts'));
    assert.equal((await store.get(`${id}:ckpt-step-6`)).step, 6);
    assert.equal(await store.version(id), null);
  });
}

test('a learning rate that throws the parameters out of range fails the job', async (t) => {
  const job = fakeJob(await temporaryDirectory(t), { learning_rate: 1e30 });
  await assert.rejects(
    runTuning(job, recordingHooks().hooks, fakeDependencies()),
    (error: PtunedError) => error.code === 'loss_not_finite' && error.details.learning_rate === 1e30,
  );
});

test('a job whose prompt is already stored is finished without training again', async (t) => {
  const directory = await temporaryDirectory(t);
  const first = resultOf(await runTuning(fakeJob(directory), recordingHooks().hooks, fakeDependencies()));
  const dependencies = fakeDependencies({ onBatch: () => assert.fail('nothing is left to compute') });
  const second = await runTuning({ ...fakeJob(directory), attempt: 2 }, recordingHooks().hooks, dependencies);
  assert.deepEqual(second, { kind: 'succeeded', result: first });
});

test('everything that was opened is closed, also when opening fails half-way', async (t) => {
  const open = new Set<string>();
  const track = <T extends { close(): Promise<void> }>(name: string, part: T): T => {
    open.add(name);
    return { ...part, close: async () => void open.delete(name) };
  };
  const base = fakeDependencies();
  const dependencies = {
    ...base,
    openLm: async (...options: Parameters<typeof base.openLm>) => track('lm', await base.openLm(...options)),
    openEncoder: async (...options: Parameters<typeof base.openEncoder>) =>
      track('encoder', await base.openEncoder(...options)),
  };
  await runTuning(fakeJob(await temporaryDirectory(t), { n_epochs: 1 }), recordingHooks().hooks, dependencies);
  assert.equal(open.size, 0);
  const failing = { ...dependencies, openEncoder: () => Promise.reject(new Error('no encoder')) };
  const job = fakeJob(await temporaryDirectory(t), { n_epochs: 1 });
  await assert.rejects(runTuning(job, recordingHooks().hooks, failing), /no encoder/);
  assert.equal(open.size, 0);
});
