import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { test } from 'node:test';
import { setTimeout } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { createArtifactStore } from '../../src/artifacts/store.ts';
import type { PtunedError } from '../../src/errors.ts';
import type { JobResult } from '../../src/jobs/contract.ts';
import type { ResolvedMethod } from '../../src/jobs/method.ts';
import { importModel } from '../../src/lm/import.ts';
import { inspectDirectory } from '../../src/lm/inspect.ts';
import { trainProgram } from '../../src/lm/programs.ts';
import { openProgram, trainerOn } from '../../src/lm/run-program.ts';
import type { Lm, StepResult, Trainer } from '../../src/lm/types.ts';
import { realDependencies } from '../../src/tuning/dependencies.ts';
import { createPack } from '../../src/tuning/pack.ts';
import { readReference, relativeError, vocabularyCandidates } from '../../src/tuning/reference.ts';
import { createResidentLms } from '../../src/tuning/resident.ts';
import { runTuning } from '../../src/tuning/run.ts';
import type { TuningDependencies, TuningJob, TuningOutcome } from '../../src/tuning/types.ts';
import { fakeDependencies, fakeJob, fakeLm, recordingHooks, temporaryDirectory } from '../support/fake-tuning.ts';

/** Jobs that differ in seed, batch size, length and how often they are scored. */
function fakeJobs(directory: string): TuningJob[] {
  return [
    { seed: 1, options: { n_epochs: 6 } },
    { seed: 2, options: { n_epochs: 9, batch_size: 5, evaluate_every: 7 } },
    { seed: 3, options: { n_epochs: 4, optimizer: 'adamw' as const, gradient_clip: 0.5 } },
  ].map(({ seed, options }, i) => {
    const job = fakeJob(directory, options, { directory: join(directory, 'jobs', `ftjob-${i}`) });
    return { ...job, spec: { ...job.spec, id: `ftjob-${i}`, fineTunedModel: `ft:fake-lm:local::${i}`, seed } };
  });
}

/** Dependencies over one LM that stays open, and how many rows each of its training steps had. */
function residentDependencies(): { dependencies: TuningDependencies; rows: number[]; opened: () => number } {
  const rows: number[] = [];
  let opened = 0;
  const dependencies = fakeDependencies();
  const counting = (trainer: Trainer): Trainer => ({
    ...trainer,
    step(batch, ...rest) {
      rows.push(batch.rows);
      return trainer.step(batch, ...rest);
    },
  });
  const open = async (): Promise<Lm> => {
    opened++;
    // Without a pause a job would be at its end before the others have come to their first step.
    const lm = fakeLm({ onBatch: () => setTimeout(5) });
    return { ...lm, trainer: async (...args) => counting(await lm.trainer(...args)) };
  };
  return { dependencies: { ...dependencies, openLm: createResidentLms(open) }, rows, opened: () => opened };
}

const resultOf = (outcome: TuningOutcome): JobResult => {
  assert.equal(outcome.kind, 'succeeded');
  return (outcome as { result: JobResult }).result;
};

async function tableOf(directory: string, job: TuningJob): Promise<Float32Array> {
  return (await createArtifactStore(join(directory, 'artifacts')).loadPrompt(job.spec.fineTunedModel)).table;
}

test('jobs that share batches end as they end alone', async (t) => {
  const [alone, packed] = [await temporaryDirectory(t), await temporaryDirectory(t)];
  const expected: JobResult[] = [];
  for (const job of fakeJobs(alone)) {
    expected.push(resultOf(await runTuning(job, recordingHooks().hooks, fakeDependencies())));
  }
  const { dependencies, rows, opened } = residentDependencies();
  const told = recordingHooks();
  const outcomes = await Promise.all(fakeJobs(packed).map((job) => runTuning(job, told.hooks, dependencies)));
  assert.equal(opened(), 1);
  assert.ok(rows.filter((count) => count > 8).length > 20, `${rows}`);
  assert.ok(told.progress.some(({ packedJobs }) => packedJobs === 3));
  for (const [i, job] of fakeJobs(packed).entries()) {
    const result = resultOf(outcomes[i]!);
    assert.equal(result.steps, expected[i]!.steps);
    assert.equal(result.bestStep, expected[i]!.bestStep);
    assert.ok(Math.abs(result.tuned.dev.loss! - expected[i]!.tuned.dev.loss!) < 1e-5);
    assert.ok(relativeError(await tableOf(packed, job), await tableOf(alone, fakeJobs(alone)[i]!)) < 1e-4);
  }
});

for (const [costOfRow, isShared] of [
  [0.1, true],
  [2, false],
] as const) {
  test(`steps are ${isShared ? '' : 'not '}shared where a row among many costs ${costOfRow} of one alone`, async () => {
    let [clock, rows] = [0, [] as number[]];
    const trainer: Pick<Trainer, 'step' | 'close'> = {
      async step(batch) {
        rows.push(batch.rows);
        clock += batch.rows === 1 ? 1 : batch.rows * costOfRow;
        return { loss: 1, losses: new Float32Array(batch.rows).fill(1), gradient: new Float32Array(batch.rows) };
      },
      close: async () => {},
    };
    const pack = createPack(trainer, { pad: 0, mostTokens: 1000, now: () => clock });
    const members = [pack.join(), pack.join(), pack.join()];
    const one = new BigInt64Array(1);
    const batch = { rows: 1, length: 1, ids: one, mask: BigInt64Array.of(1n), slots: one, targets: one };
    const table = { rows: 1, width: 1, values: new Float32Array(1) };
    for (let i = 0; i < 60; i++) {
      const results = await Promise.all(members.map(({ step }) => step(batch, one, table)));
      assert.deepEqual(
        results.map(({ losses }) => losses.length),
        [1, 1, 1],
      );
      // The first steps find out.
      if (i === 10) rows = [];
    }
    const [shared, alone] = [rows.filter((count) => count === 3).length, rows.filter((count) => count === 1).length];
    // The dearer way is tried again once.
    assert.deepEqual([shared, alone], isShared ? [48, 3] : [1, 144]);
  });
}

test('a job that has the LM to itself, and any after it, ends in the bytes it would have without packing', async (t) => {
  const [alone, kept] = [await temporaryDirectory(t), await temporaryDirectory(t)];
  const { dependencies, opened } = residentDependencies();
  const jobs = fakeJobs(kept);
  for (const [i, job] of fakeJobs(alone).entries()) {
    const expected = resultOf(await runTuning(job, recordingHooks().hooks, fakeDependencies()));
    const result = resultOf(await runTuning(jobs[i]!, recordingHooks().hooks, dependencies));
    assert.equal(result.promptSha256, expected.promptSha256);
  }
  assert.equal(opened(), 1);
});

test('one that is cancelled, fails or is handed back leaves the others alone', async (t) => {
  const [alone, packed] = [await temporaryDirectory(t), await temporaryDirectory(t)];
  const expected = resultOf(await runTuning(fakeJobs(alone)[1]!, recordingHooks().hooks, fakeDependencies()));
  const { dependencies } = residentDependencies();
  const [first, second, third] = fakeJobs(packed) as [TuningJob, TuningJob, TuningJob];
  let asked = 0;
  const stopping = recordingHooks({ stopRequested: () => (asked++ > 12 ? 'hand-back' : null) });
  Object.assign(third.spec.method.hyperparameters, { learning_rate: 1e38 });
  const [stopped, whole, failure] = await Promise.all([
    runTuning(first, stopping.hooks, dependencies),
    runTuning(second, recordingHooks().hooks, dependencies),
    runTuning(third, recordingHooks().hooks, dependencies).catch((error: PtunedError) => error),
  ]);
  assert.equal(stopped.kind, 'stopped');
  assert.equal((failure as PtunedError).code, 'loss_not_finite');
  assert.ok(Math.abs(resultOf(whole).tuned.dev.loss! - expected.tuned.dev.loss!) < 1e-5);
  // What was handed back goes on from its own checkpoint, and is not the less right for having shared steps.
  const again = await runTuning({ ...first, attempt: 2 }, recordingHooks().hooks, fakeDependencies());
  const direct = resultOf(await runTuning(fakeJobs(alone)[0]!, recordingHooks().hooks, fakeDependencies()));
  assert.ok(Math.abs(resultOf(again).tuned.dev.loss! - direct.tuned.dev.loss!) < 1e-5);
});

test('a shipped LM: a kept session ends in the bytes of a new one, shared steps in the same prompts', async (t) => {
  const data = 'demo/data/capital';
  const model = await importModel(resolve('demo/models/demo-gpt2'), { id: 'demo-gpt2' });
  const template = JSON.parse(readFileSync('demo/data/tasks.json', 'utf8'))['demo-gpt2'].p_tuning.template;
  const jobsIn = (folder: string) =>
    [4, 6].map((batch, i): TuningJob => {
      const options = { max_steps: 8 + 2 * i, batch_size: batch, evaluate_every: 5 };
      const job = fakeJob(folder, {}, { directory: join(folder, `job-${i}`), model });
      const method = { ...job.spec.method, template, encoder: { type: 'lstm', layers: 2 } } as ResolvedMethod;
      Object.assign(method.hyperparameters, options);
      const names = { id: `ftjob-${i}`, fineTunedModel: `ft:fake-lm:local::${i}`, modelHash: model.hash };
      const files = { train: `${data}/train.jsonl`, dev: `${data}/dev.jsonl`, test: null, allowedWords: null };
      return { ...job, files, spec: { ...job.spec, ...names, method, seed: i } };
    });
  const [alone, kept, packed] = await Promise.all([0, 1, 2].map(() => temporaryDirectory(t)));
  const resident = { ...realDependencies, openLm: createResidentLms(realDependencies.openLm) };
  const run = async (job: TuningJob, dependencies: TuningDependencies) =>
    resultOf(await runTuning(job, recordingHooks().hooks, dependencies));
  for (const [i, job] of jobsIn(alone!).entries()) {
    const { promptSha256 } = await run(job, realDependencies);
    assert.equal((await run(jobsIn(kept!)[i]!, resident)).promptSha256, promptSha256);
  }
  const told = recordingHooks();
  await Promise.all(jobsIn(packed!).map((job) => runTuning(job, told.hooks, resident)));
  for (const job of jobsIn(packed!)) {
    assert.ok(relativeError(await tableOf(packed!, job), await tableOf(alone!, job)) < 1e-4);
  }
});

for (const name of ['gpt2', 'bert', 'llama']) {
  test(`${name}: a job whose numbers overflow does not reach the gradients of the others`, async () => {
    const folder = fileURLToPath(new URL(`../fixtures/${name}`, import.meta.url));
    const lm = inspectDirectory(folder);
    const { batch, labels, table } = await readReference(join(folder, 'reference.safetensors'));
    const options = { threads: 1, device: 'cpu' as const, directory: lm.graphDirectory };
    const trainer = trainerOn(await openProgram(trainProgram(lm, vocabularyCandidates(lm.vocabularySize)), options));
    const steps: number[] = [];
    const counting: Trainer = {
      ...trainer,
      step(one, ...rest) {
        steps.push(one.rows);
        return trainer.step(one, ...rest);
      },
    };
    const alone = await trainer.step(batch, labels, table);
    const pack = createPack(counting, { pad: 0, mostTokens: 1024 });
    const step = (fill: number): Promise<[StepResult, StepResult]> => {
      const values = fill === 0 ? table.values : new Float32Array(table.values.length).fill(fill);
      const [a, b] = [pack.join(), pack.join()];
      const both = Promise.all([a.step(batch, labels, table), b.step(batch, labels, { ...table, values })]);
      return both.finally(() => {
        a.quit();
        b.quit();
      });
    };
    const shared = await step(0);
    assert.equal(shared[0].jobs, 2);
    for (const { loss, gradient } of shared) {
      assert.ok(relativeError([loss], [alone.loss]) < 1e-6);
      assert.ok(relativeError(gradient, alone.gradient) < 1e-5);
    }
    for (const fill of [3e38, Number.NaN]) {
      const [good] = await step(fill);
      assert.deepEqual(good.gradient, alone.gradient, `table of ${fill}`);
    }
    assert.ok(steps.includes(2 * batch.rows));
    await trainer.close();
  });
}
