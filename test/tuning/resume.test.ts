import assert from 'node:assert/strict';
import { fork } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs/promises';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import type { Disk } from '../../src/artifacts/disk.ts';
import { createArtifactStore } from '../../src/artifacts/store.ts';
import { PtunedError } from '../../src/errors.ts';
import type { JobResult } from '../../src/jobs/contract.ts';
import { runTuning } from '../../src/tuning/run.ts';
import type { TuningHooks, TuningOutcome } from '../../src/tuning/types.ts';
import { fakeDependencies, fakeJob, noise, recordingHooks, temporaryDirectory } from '../support/fake-tuning.ts';

const options = { evaluate_every: 17, n_epochs: 8 };
const id = fakeJob('').spec.fineTunedModel;
const pick = (limit: number, a: number, b: number): number => Math.floor(((noise(a, b) + 1) / 2) * limit);

/** Bytes of everything the finished job left, and what it reported apart from times. */
async function finalBytes(directory: string, outcome: TuningOutcome): Promise<Record<string, string>> {
  assert.equal(outcome.kind, 'succeeded');
  const { seconds: _, secondsPerStep: __, ...result } = (outcome as { result: JobResult }).result;
  const store = createArtifactStore(join(directory, 'artifacts'));
  const { files, metrics } = await store.get(id);
  const models = (await store.list('local')).data.map((manifest) => [manifest.id, manifest.files[0]!.sha256]);
  return {
    files: JSON.stringify(files),
    metrics: JSON.stringify(metrics),
    models: JSON.stringify(models.sort()),
    result: JSON.stringify(result),
  };
}

async function uninterrupted(t: TestContext): Promise<Record<string, string>> {
  const directory = await temporaryDirectory(t);
  return finalBytes(
    directory,
    await runTuning(fakeJob(directory, options), recordingHooks().hooks, fakeDependencies()),
  );
}

/** Dies for good: whatever the run does next throws too. */
class Killed extends Error {}
interface Victim {
  dead: boolean;
  kill(): never;
}
function victim(): Victim {
  return {
    dead: false,
    kill() {
      this.dead = true;
      throw new Killed();
    },
  };
}
const hooksOf = (prey: Victim): TuningHooks => recordingHooks({ heartbeat: () => prey.dead && prey.kill() }).hooks;

test('killed at random batches, resumed each time: the same final bytes', async (t) => {
  const expected = await uninterrupted(t);
  let kills = 0;
  for (let round = 0; round < 12; round++) {
    const directory = await temporaryDirectory(t);
    let outcome: TuningOutcome | null = null;
    for (let attempt = 1; outcome === null; attempt++) {
      const prey = victim();
      // Some rounds save at every step, some only at evaluations: there an attempt must live to the next one.
      const everyStep = round % 2 === 0;
      const job = fakeJob(directory, options, { attempt, checkpointSeconds: everyStep ? 0 : 1000 });
      const at = (everyStep ? 1 : 20) + pick(18, round, attempt);
      const dependencies = fakeDependencies({ onBatch: (count) => void (count === at && prey.kill()) });
      outcome = await runTuning(job, hooksOf(prey), dependencies).catch((error) => {
        if (!(error instanceof Killed)) throw error;
        kills++;
        return null;
      });
    }
    assert.deepEqual(await finalBytes(directory, outcome), expected, `round ${round}`);
  }
  assert.ok(kills > 30, `only ${kills} kills`);
});

/** The file system until its call number `at`, where the process dies (in a write: half-way through it). */
function failingDisk(at: number, prey: Victim): Disk & { calls: number } {
  const disk = { calls: 0 } as Disk & { calls: number };
  const guard = (): void => {
    if (prey.dead || disk.calls++ === at) prey.kill();
  };
  for (const name of ['mkdir', 'readdir', 'rename', 'rm', 'stat'] as const) {
    disk[name] = ((...args: never[]) => {
      guard();
      return (fs[name] as (...args: never[]) => unknown)(...args);
    }) as never;
  }
  disk.open = async (...args) => {
    guard();
    const file = await fs.open(...args);
    const writeFile = file.writeFile.bind(file);
    file.writeFile = async (data) => {
      try {
        guard();
      } catch (error) {
        await writeFile((data as Uint8Array).subarray(0, 100));
        throw error;
      }
      await writeFile(data);
    };
    const sync = file.sync.bind(file);
    file.sync = async () => {
      guard();
      await sync();
    };
    return file;
  };
  return disk;
}

test('killed at every file operation of a checkpoint: the same final bytes', async (t) => {
  const short = { evaluate_every: 4, n_epochs: 1 };
  const run = async (directory: string, attempt: number, prey: Victim, disk: Disk): Promise<TuningOutcome | null> =>
    runTuning(fakeJob(directory, short, { attempt }), hooksOf(prey), fakeDependencies({ disk })).catch((error) => {
      if (!prey.dead) throw error;
      return null;
    });
  const reference = await temporaryDirectory(t);
  const counting = failingDisk(Number.POSITIVE_INFINITY, victim());
  const outcome = await run(reference, 1, victim(), counting);
  const expected = await finalBytes(reference, outcome!);
  assert.ok(counting.calls > 30, `${counting.calls} calls`);
  for (let at = 0; at < counting.calls; at++) {
    const directory = await temporaryDirectory(t);
    const prey = victim();
    // The very last operations tidy up after the last batch, so the run may still finish.
    const first = await run(directory, 1, prey, failingDisk(at, prey));
    assert.ok(prey.dead);
    const second = first ?? (await run(directory, 2, victim(), fs));
    assert.deepEqual(await finalBytes(directory, second!), expected, `operation ${at}`);
  }
});

test('a full disk costs checkpoints, not the run', async (t) => {
  const directory = await temporaryDirectory(t);
  const full = {
    ...fs,
    open: () => Promise.reject(Object.assign(new Error('ENOSPC'), { code: 'ENOSPC', syscall: 'open' })),
  };
  const told = recordingHooks();
  const outcome = await runTuning(fakeJob(directory, options), told.hooks, fakeDependencies({ disk: full as Disk }));
  assert.deepEqual(await finalBytes(directory, outcome), await uninterrupted(t));
  assert.ok(told.events.some(({ level, message }) => level === 'warn' && message.includes('ENOSPC')));
});

/** Trains until `step` and is stopped there. */
async function runUntil(directory: string, step: number, how: 'hand-back' | 'cancel', checkpointSeconds = 1000) {
  let asked = 0;
  const told = recordingHooks({ stopRequested: () => (asked++ >= step ? how : null) });
  const job = fakeJob(directory, options, { checkpointSeconds });
  return { outcome: await runTuning(job, told.hooks, fakeDependencies()), told };
}

test('handed back at any batch: nothing is lost, the next attempt goes on from that very step', async (t) => {
  const expected = await uninterrupted(t);
  for (const batch of [0, 1, 2, 3, 10, 19, 20, 21, 40, 52, 53, 54]) {
    const directory = await temporaryDirectory(t);
    const { outcome } = await runUntil(directory, batch, 'hand-back');
    assert.equal(outcome.kind, 'stopped');
    const told = recordingHooks();
    const second = await runTuning(fakeJob(directory, options, { attempt: 2 }), told.hooks, fakeDependencies());
    assert.deepEqual(told.events[0]!.data, { step: (outcome as { step: number }).step, attempt: 2 });
    assert.deepEqual(await finalBytes(directory, second), expected, `batch ${batch}`);
  }
});

test('rows grouped by length: padding falls, and a resumed run still ends in the same bytes', async (t) => {
  const grouped = { ...options, group_by_length: true };
  const padding = async (directory: string, hyperparameters: typeof options, stopAt: number) => {
    let [tokens, places, asked] = [0, 0, 0];
    const dependencies = fakeDependencies();
    const openLm: typeof dependencies.openLm = async (...args) => {
      const lm = await dependencies.openLm(...args);
      const trainer: typeof lm.trainer = async (...made) => {
        const inner = await lm.trainer(...made);
        return {
          ...inner,
          step(batch, ...rest) {
            tokens += batch.mask.reduce((sum, one) => sum + Number(one), 0);
            places += batch.mask.length;
            return inner.step(batch, ...rest);
          },
        };
      };
      return { ...lm, trainer };
    };
    const told = recordingHooks({ stopRequested: () => (asked++ === stopAt ? 'hand-back' : null) });
    const attempt = stopAt < 0 ? 2 : 1;
    const outcome = await runTuning(fakeJob(directory, hyperparameters, { attempt }), told.hooks, {
      ...dependencies,
      openLm,
    });
    return { outcome, share: 1 - tokens / places };
  };
  const [plain, whole, broken] = await Promise.all([1, 2, 3].map(() => temporaryDirectory(t)));
  const random = await padding(plain!, options, -1);
  const { outcome, share } = await padding(whole!, grouped, -1);
  assert.ok(share < random.share / 2, `${share} of ${random.share}`);
  assert.equal((await padding(broken!, grouped, 25)).outcome.kind, 'stopped');
  const resumed = (await padding(broken!, grouped, -1)).outcome;
  assert.deepEqual(await finalBytes(broken!, resumed), await finalBytes(whole!, outcome));
});

test('cancelled: stopped at once, nothing published under the final name', async (t) => {
  const directory = await temporaryDirectory(t);
  const { outcome, told } = await runUntil(directory, 30, 'cancel');
  assert.equal(outcome.kind, 'stopped');
  assert.equal(await createArtifactStore(join(directory, 'artifacts')).version(id), null);
  assert.equal(told.checkpoints.length, 1);
});

test('a damaged checkpoint is never resumed: the one before it is, or the beginning', async (t) => {
  const expected = await uninterrupted(t);
  const source = await temporaryDirectory(t);
  await runUntil(source, 30, 'hand-back', 0);
  const folder = join('jobs', 'ftjob-1', 'checkpoint');
  const names = (await fs.readdir(join(source, folder))).filter((name) => /^\d/.test(name)).sort();
  assert.equal(names.length, 2);
  const stepsSeen = new Set<number>();
  for (let round = 0; round < 30; round++) {
    const directory = await temporaryDirectory(t);
    await fs.cp(source, directory, { recursive: true });
    const both = round % 5 === 0;
    for (const name of both ? names : names.slice(1)) await damage(join(directory, folder, name), round);
    const told = recordingHooks();
    const outcome = await runTuning(fakeJob(directory, options, { attempt: 2 }), told.hooks, fakeDependencies());
    const [warning, start] = told.events;
    assert.equal(warning!.level, 'warn');
    assert.equal((warning!.data.damaged as string[]).length, both ? 2 : 1);
    stepsSeen.add(start!.data.step as number);
    assert.deepEqual(await finalBytes(directory, outcome), expected, `round ${round}`);
  }
  assert.equal(stepsSeen.size, 2);
  assert.ok(stepsSeen.has(0));
});

/** One changed bit, a shorter file, or no file. */
async function damage(checkpoint: string, round: number): Promise<void> {
  const path = join(checkpoint, round % 2 === 0 ? 'state.safetensors' : 'checkpoint.json');
  const bytes = await fs.readFile(path);
  const at = pick(bytes.length, round, 1);
  if (round % 7 === 0) return fs.rm(path);
  if (round % 3 === 0) return fs.writeFile(path, bytes.subarray(0, at));
  bytes[at]! ^= 1 << pick(8, round, 2);
  await fs.writeFile(path, bytes);
}

test('a checkpoint of another job is not continued', async (t) => {
  const directory = await temporaryDirectory(t);
  await runUntil(directory, 30, 'hand-back');
  const job = fakeJob(directory, options, { attempt: 2 });
  job.spec.seed = 35;
  const told = recordingHooks();
  const outcome = await runTuning(job, told.hooks, fakeDependencies());
  assert.equal(outcome.kind, 'succeeded');
  assert.equal(told.events[1]!.data.step, 0);
});

test('a worker with another number of threads goes on with those the run began with', async (t) => {
  const directory = await temporaryDirectory(t);
  await runUntil(directory, 30, 'hand-back');
  const threads: number[] = [];
  const dependencies = fakeDependencies();
  const { openLm } = dependencies;
  dependencies.openLm = (model, lmOptions) => {
    threads.push(lmOptions.threads);
    return openLm(model, lmOptions);
  };
  const job = fakeJob(directory, options, { attempt: 2, threads: 16 });
  await runTuning(job, recordingHooks().hooks, dependencies);
  assert.deepEqual(threads, [1]);
});

test('an attempt that was taken for dead publishes nothing once a newer one has begun', async (t) => {
  const directory = await temporaryDirectory(t);
  const frozen = fakeDependencies({
    async onBatch(count) {
      // The newer attempt begins while this one is frozen, and is itself stopped before it finishes.
      if (count !== 30) return;
      let asked = 0;
      const { hooks } = recordingHooks({ stopRequested: () => (asked++ > 2 ? 'cancel' : null) });
      await runTuning(fakeJob(directory, options, { attempt: 2 }), hooks, fakeDependencies());
    },
  });
  const told = recordingHooks();
  await assert.rejects(
    runTuning(fakeJob(directory, options), told.hooks, frozen),
    (error) => error instanceof PtunedError && error.code === 'conflict',
  );
  assert.deepEqual(
    told.checkpoints.map(({ step }) => step),
    [17],
  );
  const third = fakeJob(directory, options, { attempt: 3 });
  const outcome = await runTuning(third, recordingHooks().hooks, fakeDependencies());
  assert.deepEqual(await finalBytes(directory, outcome), await uninterrupted(t));
});

test('a process killed with -9 again and again ends in the bytes of one left alone', { timeout: 60_000 }, async (t) => {
  const script = new URL('../support/tuning-child.ts', import.meta.url);
  const start = (directory: string, attempt: number) =>
    fork(script, [directory, String(attempt)], {
      execArgv: ['--import', 'tsx'],
      stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
    });
  const alone = await temporaryDirectory(t);
  const undisturbed = start(alone, 1);
  const finished = new Promise<TuningOutcome>((resolve) => {
    undisturbed.on('message', (message) => message !== 'alive' && resolve(message as TuningOutcome));
  });
  await once(undisturbed, 'exit');
  const expected = await finalBytes(alone, await finished);

  const directory = await temporaryDirectory(t);
  let outcome: TuningOutcome | null = null;
  let kills = 0;
  for (let attempt = 1; outcome === null; attempt++) {
    const child = start(directory, attempt);
    let beats = 0;
    child.on('message', (message) => {
      if (message !== 'alive') outcome = message as TuningOutcome;
      // Some way into a step or the writing that follows it.
      else if (kills < 4 && ++beats === 5 + pick(8, attempt, 3))
        setTimeout(() => child.kill('SIGKILL'), pick(6, attempt, 4));
    });
    const [, signal] = await once(child, 'exit');
    if (signal === 'SIGKILL') kills++;
  }
  assert.equal(kills, 4);
  assert.deepEqual(await finalBytes(directory, outcome), expected);
});
