/** A folder's LM against what another implementation recorded beside it: reference.safetensors, trajectory.safetensors. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { readSafetensors } from '../artifacts/safetensors.ts';
import { PtunedError } from '../errors.ts';
import { inspectDirectory } from '../lm/inspect.ts';
import { trainProgram } from '../lm/programs.ts';
import { openProgram, trainerOn } from '../lm/run-program.ts';
import { tryTraining } from '../lm/trial.ts';
import type { LmBatch, PromptTable, Trainer } from '../lm/types.ts';
import type { ImportOptions } from '../models/manifest.ts';
import { openEncoder } from '../prompts/open.ts';
import type { Candidates } from '../tasks/types.ts';
import { runTrajectory } from './trajectory.ts';

export interface ReferenceCheck {
  lossError: number;
  gradientError: number;
  /** Largest relative error of the recorded training losses; null where no trajectory is recorded. */
  trajectoryError: number | null;
}

export interface Reference {
  batch: LmBatch;
  labels: BigInt64Array;
  table: PromptTable;
  loss: number;
  gradient: Float32Array;
}

/** The whole vocabulary as candidates. */
export function vocabularyCandidates(size: number): Candidates {
  return {
    count: size,
    width: 1,
    ids: Int32Array.from({ length: size }, (_, i) => i),
    weights: new Float32Array(size).fill(1),
    names: [],
  };
}

/** Reads what PyTorch computed. @throws PtunedError damaged_artifact, missing_file */
export async function readReference(path: string): Promise<Reference> {
  const tensors = await readSafetensors(path);
  const get = (name: string) => {
    const found = tensors.get(name);
    if (found === undefined) throw new PtunedError('missing_file', `${path} has no tensor "${name}".`);
    return found;
  };
  const ids = get('input_ids');
  const [rows, length] = ids.shape as [number, number];
  const prompt = get('prompt');
  const decoder = tensors.get('decoder_input_ids');
  return {
    batch: {
      rows,
      length,
      ids: ids.data as BigInt64Array,
      mask: get('attention_mask').data as BigInt64Array,
      slots: get('slots').data as BigInt64Array,
      targets: get('target_position').data as BigInt64Array,
      ...(decoder === undefined ? {} : { decoder: { length: decoder.shape[1]!, ids: decoder.data as BigInt64Array } }),
    },
    labels: get('label').data as BigInt64Array,
    table: { rows: prompt.shape[0]!, width: prompt.shape[1]!, values: prompt.data as Float32Array },
    loss: (get('loss').data as Float32Array)[0]!,
    gradient: get('prompt_gradient').data as Float32Array,
  };
}

/** Runs one training step on the folder's LM and compares. */
export async function checkReference(
  folder: string,
  options: Pick<ImportOptions, 'embedding' | 'graph'> = {},
): Promise<ReferenceCheck> {
  const reference = await readReference(join(folder, 'reference.safetensors'));
  const inspected = inspectDirectory(folder, options);
  const lm = { ...inspected, redundant: await tryTraining(inspected) };
  const program = trainProgram(lm, vocabularyCandidates(lm.vocabularySize));
  const runner = await openProgram(program, { threads: 1, device: 'cpu', directory: lm.graphDirectory });
  try {
    const trainer = trainerOn(runner);
    const { loss, gradient } = await trainer.step(reference.batch, reference.labels, reference.table);
    return {
      trajectoryError: await trajectoryError(join(folder, 'trajectory.safetensors'), trainer, reference),
      lossError: Math.abs(loss - reference.loss) / Math.abs(reference.loss),
      gradientError: relativeError(gradient, reference.gradient),
    };
  } finally {
    await runner.close();
  }
}

/** Trains the recorded encoder from its initial parameters (Adam, lr 5e-3, L2 5e-4) and compares every loss. */
async function trajectoryError(path: string, trainer: Trainer, reference: Reference): Promise<number | null> {
  if (!existsSync(path)) return null;
  const recorded = await readSafetensors(path);
  const { rows: virtualTokens, width } = reference.table;
  const encoder = await openEncoder({ type: 'lstm', layers: 2, virtualTokens, width, base: null }, { threads: 1 });
  try {
    const parameters = encoder.initialise(0);
    for (const [name, parameter] of parameters) {
      parameter.values.set(recorded.get(`initial.${name}`)!.data as Float32Array);
    }
    const expected = recorded.get('losses')!.data as Float32Array;
    const settings = { steps: expected.length, learningRate: 5e-3, weightDecay: 5e-4 };
    const losses = await runTrajectory({ trainer, encoder }, parameters, reference.batch, reference.labels, settings);
    return Math.max(...losses.map((loss, i) => Math.abs(loss - expected[i]!) / Math.abs(expected[i]!)));
  } finally {
    await encoder.close();
  }
}

/** ‖a − b‖ / ‖b‖ in the Euclidean norm; NaN and a difference in length count as infinite. */
export function relativeError(found: ArrayLike<number>, expected: ArrayLike<number>): number {
  if (found.length !== expected.length) return Infinity;
  let difference = 0;
  let size = 0;
  for (let i = 0; i < expected.length; i++) {
    difference += (found[i]! - expected[i]!) ** 2;
    size += expected[i]! ** 2;
  }
  const error = Math.sqrt(difference / size);
  return Number.isNaN(error) ? Infinity : error;
}
