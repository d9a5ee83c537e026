/** A process that trains the fake job and is killed by its test. Arguments: folder, attempt. */
import { setTimeout } from 'node:timers/promises';
import { runTuning } from '../../src/tuning/run.ts';
import { fakeDependencies, fakeJob, recordingHooks } from './fake-tuning.ts';

const [, , directory, attempt] = process.argv;
const dependencies = fakeDependencies({ onBatch: () => setTimeout(1) });
const job = fakeJob(directory!, { evaluate_every: 17 }, { attempt: Number(attempt), checkpointSeconds: 0 });
const hooks = recordingHooks({ heartbeat: () => process.send?.('alive') }).hooks;
const outcome = await runTuning(job, hooks, dependencies);
process.send?.(outcome);
process.disconnect?.();
