/** Whole training steps of the product on one LM, timed by their parts. Runs in a process of its own and does nothing else. */
import { openLm } from '../../src/lm/open.ts';
import type { Lm, TablePlace } from '../../src/lm/types.ts';
import type { ModelManifest } from '../../src/models/manifest.ts';
import { openEncoder } from '../../src/prompts/open.ts';
import type { EncoderType } from '../../src/prompts/schema.ts';
import type { Parameters } from '../../src/prompts/types.ts';
import { takingContexts } from '../../src/tuning/contexts.ts';
import { createOptimizer, initialOptimizerState } from '../../src/tuning/optimizers/registry.ts';
import { vocabularyCandidates } from '../../src/tuning/reference.ts';
import { type StepParts, trainStep } from '../../src/tuning/step.ts';
import { peerBatch } from './batch.ts';
import { answerOnce } from './child.ts';
import { minimum } from './statistics.ts';

export interface TrainTask {
  manifest: ModelManifest;
  batch: number;
  /** Tokens of a row, pseudo tokens included. */
  length: number;
  virtual: number;
  encoder: EncoderType;
  /** Position whose logits are read. */
  target: number;
  /** Tokens before the first pseudo token; default 0. */
  context?: number;
  /** How rows with a context train, default whole; behind: with so many bytes of contexts kept. */
  place?: TablePlace;
  contextBytes?: number;
  steps: number;
  threads: number;
  /** Prefix of the files that onnxruntime writes its profile to. */
  profile: string | null;
}

export interface TrainTimes {
  /** Milliseconds of each counted step. */
  steps: number[];
  /** Of the shortest step. */
  parts: Record<Part, number>;
  openMs: number;
  /** Parameters of the prompt encoder. */
  parameters: number;
}

export type Part = 'encoder' | 'lm' | 'encoderGradient' | 'optimizer' | 'host';

/** Two steps that are not counted come first: they allocate arenas. */
const warmup = 2;

answerOnce<TrainTask, TrainTimes>(async (task) => {
  const opening = performance.now();
  const { threads, manifest, virtual: virtualTokens } = task;
  const profile = task.profile === null ? {} : { profile: task.profile };
  const lm = await openLm(manifest, { threads, device: 'cpu', ...profile });
  const { trainer, scorer } = await openLmParts(lm, task);
  const { width } = manifest.embedding;
  const encoder = await openEncoder({ type: task.encoder, layers: 2, virtualTokens, width, base: null }, { threads });
  const parameters = encoder.initialise(0);
  const optimizer = createOptimizer('adam', initialOptimizerState(parameters), { weightDecay: 0 });
  const openMs = performance.now() - opening;
  const times = await timeSteps({ trainer, encoder, optimizer }, parameters, task);
  await encoder.close();
  await trainer.close();
  await scorer?.close();
  await lm.close();
  const count = [...parameters.values()].reduce((sum, { values }) => sum + values.length, 0);
  return { ...times, openMs, parameters: count };
});

/** Where contexts are measured, a scorer beside the trainer, as jobs have it: it is what reads them. */
async function openLmParts(lm: Lm, { manifest, context = 0, place = 'embeddings', contextBytes }: TrainTask) {
  const candidates = vocabularyCandidates(manifest.vocabularySize);
  const trainer = await lm.trainer(candidates, place);
  if (context === 0) return { trainer, scorer: null };
  const scorer = await lm.scorer(candidates, place === 'apart' ? 'embeddings' : place);
  return contextBytes === undefined ? { trainer, scorer } : takingContexts({ trainer, scorer }, contextBytes);
}

async function timeSteps(parts: StepParts, parameters: Parameters, task: TrainTask) {
  const { spent, timed } = timeParts(parts);
  const { batch, labels } = peerBatch(task, task.manifest.vocabularySize);
  const steps: number[] = [];
  let best: Record<Part, number> = { encoder: 0, lm: 0, encoderGradient: 0, optimizer: 0, host: 0 };
  for (let i = 0; i < task.steps + warmup; i++) {
    for (const part of Object.keys(spent) as (keyof typeof spent)[]) spent[part] = 0;
    const start = performance.now();
    await trainStep(timed, parameters, batch, labels, { learningRate: 1e-4, gradientClip: null });
    const whole = performance.now() - start;
    if (i < warmup) continue;
    steps.push(whole);
    const inParts = spent.encoder + spent.lm + spent.encoderGradient + spent.optimizer;
    if (whole === minimum(steps)) best = { ...spent, host: whole - inParts };
  }
  return { steps, parts: best };
}

/** The same parts, adding up how long each was at work. */
function timeParts({ trainer, encoder, optimizer }: StepParts) {
  const spent = { encoder: 0, lm: 0, encoderGradient: 0, optimizer: 0 };
  const clock = async <T>(part: keyof typeof spent, run: () => T | Promise<T>): Promise<T> => {
    const start = performance.now();
    const result = await run();
    spent[part] += performance.now() - start;
    return result;
  };
  const timed: StepParts = {
    trainer: { ...trainer, step: (...given) => clock('lm', () => trainer.step(...given)) },
    encoder: {
      ...encoder,
      forward: (...given) => clock('encoder', () => encoder.forward(...given)),
      gradient: (...given) => clock('encoderGradient', () => encoder.gradient(...given)),
    },
    optimizer: {
      state: optimizer.state,
      update(...given) {
        const start = performance.now();
        optimizer.update(...given);
        spent.optimizer += performance.now() - start;
      },
    },
  };
  return { spent, timed };
}
