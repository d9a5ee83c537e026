import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { resolveMethod } from '../../src/jobs/defaults.ts';
import type { PTuning } from '../../src/jobs/methods/p-tuning.ts';
import { importModel } from '../../src/lm/import.ts';
import type { ModelManifest } from '../../src/models/manifest.ts';
import { realDependencies } from '../../src/tuning/dependencies.ts';
import { runTuning } from '../../src/tuning/run.ts';
import type { TuningHooks, TuningJob, TuningOutcome } from '../../src/tuning/types.ts';
import { fakeJob, recordingHooks, temporaryDirectory } from '../support/fake-tuning.ts';

const demo = (path: string): string => fileURLToPath(new URL(`../../demo/${path}`, import.meta.url));
const tasks = JSON.parse(readFileSync(demo('data/tasks.json'), 'utf8')) as Record<
  string,
  { data: string; p_tuning: PTuning }
>;

function jobOf(model: ModelManifest, name: string, directory: string): TuningJob {
  const { data, p_tuning } = tasks[name]!;
  const file = (split: string): string => demo(`data/${data}/${split}.jsonl`);
  const rows = (split: string): number => readFileSync(file(split), 'utf8').trim().split('\n').length;
  const method = resolveMethod(
    { type: 'p_tuning', p_tuning: { ...p_tuning, hyperparameters: { max_steps: 30, evaluate_every: 10 } } },
    { trainRows: rows('train'), devRows: rows('dev'), width: model.embedding.width },
  );
  const job = fakeJob(directory);
  const spec = {
    ...job.spec,
    model: model.id,
    modelHash: model.hash,
    method,
    fineTunedModel: `ft:${model.id}:local::1`,
  };
  const files = { train: file('train'), dev: file('dev'), test: file('test'), allowedWords: null };
  return { ...job, spec, model, files };
}

const resultOf = (outcome: TuningOutcome) => {
  assert.equal(outcome.kind, 'succeeded');
  return (outcome as Extract<TuningOutcome, { kind: 'succeeded' }>).result;
};

for (const name of Object.keys(tasks)) {
  test(`${name}: tuned above its manual prompt, and to the same bytes when killed and resumed`, async (t) => {
    const model = await importModel(demo(`models/${name}`));
    const told = recordingHooks();
    const directory = await temporaryDirectory(t);
    const result = resultOf(await runTuning(jobOf(model, name, directory), told.hooks, realDependencies));
    assert.ok(
      result.tuned.test!.p_at_1! > result.manual!.test!.p_at_1! + 0.3,
      `${result.tuned.test!.p_at_1} against ${result.manual!.test!.p_at_1}`,
    );
    assert.equal(result.rows.train.used, 80);
    assert.ok(told.progress.length > 0);

    const interrupted = await temporaryDirectory(t);
    let beats = 0;
    const killed: TuningHooks = {
      ...recordingHooks().hooks,
      heartbeat() {
        if (++beats === 25) throw new Error('killed');
      },
    };
    const attempt = (number: number, hooks: TuningHooks): Promise<TuningOutcome> =>
      runTuning(
        { ...jobOf(model, name, interrupted), attempt: number, threads: number, checkpointSeconds: 0 },
        hooks,
        realDependencies,
      );
    await assert.rejects(attempt(1, killed), /killed/);
    let asked = 0;
    const handedBack = recordingHooks({ stopRequested: () => (++asked === 4 ? 'hand-back' : null) });
    assert.equal((await attempt(2, handedBack.hooks)).kind, 'stopped');
    assert.ok((handedBack.events[0]!.data.step as number) > 10);
    const resumed = resultOf(await attempt(3, recordingHooks().hooks));
    assert.equal(resumed.promptSha256, result.promptSha256);
    assert.deepEqual(resumed.tuned, result.tuned);
    assert.equal(resumed.bestStep, result.bestStep);
  });
}
