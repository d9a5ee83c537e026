/** A training step on an LM that nobody trusts yet: that it runs, that it has a gradient, and which tokens it may leave out. */
import { PtunedError } from '../errors.ts';
import type { Redundancy } from '../models/manifest.ts';
import { rangesOverBatch } from '../ops/quantize.ts';
import type { Candidates } from '../tasks/types.ts';
import { hasDecoder } from './assemble.ts';
import type { Inspected } from './inspect.ts';
import { placing } from './place.ts';
import { trainProgram } from './programs.ts';
import { openProgram, trainerOn } from './run-program.ts';
import type { LmBatch, StepResult } from './types.ts';

/** Largest difference from the step that computes every token, relative to its largest element: rounding is far below. */
const tolerance = 1e-4;

/**
 * The most that may be left out of a batch without changing loss and gradient, measured on two rows with a prefix in
 * common, one of them padded; undefined where every token counts. An LM that reads later tokens too (a masked one) needs
 * the prefix of each row; one whose attention heeds no mask needs the padding.
 * @throws PtunedError import_refused where the step yields no finite gradient
 */
export async function tryTraining(lm: Inspected): Promise<Redundancy | undefined> {
  const whole = await trialStep({ ...lm, redundant: undefined }).catch(refuse);
  checkStep(whole);
  if (lm.model.graph.nodes.some(rangesOverBatch)) return undefined;
  for (const redundant of ['prefixes', 'padding'] as const) {
    if (agree(await trialStep({ ...lm, redundant }), whole)) return redundant;
  }
  return undefined;
}

/** What the runtime refuses is the LM's fault: exports with the lengths of their example built in (Longformer) among it. */
function refuse(error: unknown): never {
  if (!(error instanceof PtunedError) || error.code !== 'internal') throw error;
  throw new PtunedError(
    'import_refused',
    `A trial training step of ${rows} rows of ${length} tokens does not run; an LM must take batches and rows of any size. ${error.message}`,
    { cause: error },
  );
}

/** The runtime takes the graph, and loss and gradient are finite and not zero. */
function checkStep({ losses, gradient }: StepResult): void {
  if (![...losses, ...gradient].every(Number.isFinite)) {
    throw new PtunedError(
      'import_refused',
      'A trial training step on two rows, one of them padded, gave a loss or gradient that is not a finite number.',
    );
  }
  if (gradient.every((value) => value === 0)) {
    throw new PtunedError(
      'import_refused',
      'A trial training step gave no gradient: the logits do not depend on the word embeddings.',
    );
  }
}

function agree(one: StepResult, other: StepResult): boolean {
  return differ(one.losses, other.losses) <= tolerance && differ(one.gradient, other.gradient) <= tolerance;
}

function differ(found: Float32Array, expected: Float32Array): number {
  let [difference, size] = [0, 0];
  for (let i = 0; i < expected.length; i++) {
    difference = Math.max(difference, Math.abs(found[i]! - expected[i]!));
    size = Math.max(size, Math.abs(expected[i]!));
  }
  return difference / size;
}

const [rows, length] = [2, 6];
/** Tokens of the common prefix, and the padding of the second row. */
const [prefix, padding] = [3, 1];

async function trialStep(lm: Inspected): Promise<StepResult> {
  const candidates: Candidates = {
    count: 2,
    width: 1,
    ids: Int32Array.of(0, 1),
    weights: Float32Array.of(1, 1),
    names: [],
  };
  const options = { threads: 1, device: 'cpu' as const, directory: lm.graphDirectory, prepack: false };
  const program = placing(lm, () => trainProgram(lm, candidates));
  const trainer = trainerOn(await openProgram(program, options));
  try {
    const { width } = lm.embedding;
    const values = Float32Array.from({ length: width }, (_, i) => 0.1 * Math.sin(i));
    return await trainer.step(trialBatch(lm), BigInt64Array.of(0n, 1n), { rows: 1, width, values });
  } finally {
    await trainer.close();
  }
}

function trialBatch(lm: Inspected): LmBatch {
  const size = rows * length;
  const column = (place: number) => place % length;
  const isPadding = (place: number) => place >= size - padding;
  const id = (place: number) => Math.min(5 + (column(place) < prefix ? column(place) : place), lm.vocabularySize - 1);
  const ids = BigInt64Array.from({ length: size }, (_, place) => (isPadding(place) ? 0n : BigInt(id(place))));
  return {
    rows,
    length,
    ids,
    slots: BigInt64Array.from({ length: size }, (_, place) => (column(place) === 1 ? 0n : -1n)),
    mask: BigInt64Array.from({ length: size }, (_, place) => (isPadding(place) ? 0n : 1n)),
    targets: BigInt64Array.of(BigInt(length - 1), BigInt(length - 1 - padding)),
    ...(hasDecoder(lm) ? { decoder: { length, ids } } : {}),
  };
}
