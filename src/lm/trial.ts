/**
 * An LM that nobody trusts yet, tried out: that a training step runs and has a gradient, which tokens it may leave out, and
 * whether its cache gives what it should.
 */
import { PtunedError } from '../errors.ts';
import type { Redundancy } from '../models/manifest.ts';
import { rangesOverBatch, rounds } from '../ops/quantize.ts';
import type { Candidates } from '../tasks/types.ts';
import { createAnsweringPredictor } from './answer.ts';
import { hasDecoder } from './assemble.ts';
import type { Inspected } from './inspect.ts';
import { placing } from './place.ts';
import { type Program, trainProgram } from './programs.ts';
import { openGraph, runnerOn, trainerOn } from './run-program.ts';
import type { LmBatch, PromptTable, StepResult } from './types.ts';

/** Largest difference from the step that computes every token, relative to its largest element: rounding is far below. */
export const tolerance = 1e-4;
const options = { threads: 1, device: 'cpu', prepack: false } as const;

/** As it is written an LM opens faster; where activations are rounded, all has to round as what trains does. */
export function optionsAsWritten({ model, graphDirectory: directory }: Inspected) {
  return { ...options, optimize: model.graph.nodes.some(rounds), directory } as const;
}

/** Words that every vocabulary has. */
export const twoWords: Candidates = {
  count: 2,
  width: 1,
  ids: Int32Array.of(0, 1),
  weights: Float32Array.of(1, 1),
  names: [],
};

/**
 * The most that may be left out of a batch without changing loss and gradient, measured on two rows with a prefix in
 * common, one of them padded; undefined where every token counts. An LM that reads later tokens too (a masked one) needs
 * the prefix of each row; one whose attention heeds no mask needs the padding.
 * @throws PtunedError import_refused where the step yields no finite gradient
 */
export async function tryTraining(lm: Inspected): Promise<Redundancy | undefined> {
  const { nodes } = lm.model.graph;
  const isWhole = nodes.some(rangesOverBatch);
  // What trains is rewritten by the runtime. What that is compared with is computed as it is written, which opens three
  // times faster; but where activations are rounded, both have to round alike.
  const optimize = isWhole || nodes.some(rounds);
  const whole = await trial({ ...lm, redundant: undefined }, optimize, (step) => step()).catch(refuse);
  checkStep(whole);
  if (isWhole) return undefined;
  // One graph leaves out either: what it is fed decides.
  return trial({ ...lm, redundant: 'padding' }, true, async (step) => {
    for (const redundant of ['prefixes', 'padding'] as const) {
      if (agree(await step({ sharesPrefixes: redundant === 'prefixes' }), whole)) return redundant;
    }
    return undefined;
  });
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

/** Largest difference relative to the largest expected element. */
export function differ(found: Float32Array, expected: Float32Array): number {
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

/** What `use` makes of a training step, which it may run several times, fed in other ways than the program is by itself. */
async function trial<T>(
  lm: Inspected,
  optimize: boolean,
  use: (step: (fed?: Pick<Program, 'sharesPrefixes'>) => Promise<StepResult>) => Promise<T>,
): Promise<T> {
  const program = placing(lm, () => trainProgram(lm, twoWords));
  const session = await openGraph(program, { ...options, optimize, directory: lm.graphDirectory });
  const step = (fed = {}) => {
    const trainer = trainerOn(runnerOn(session, { ...program, ...fed }));
    return trainer.step(trialBatch(lm), BigInt64Array.of(0n, 1n), trialTable(lm));
  };
  try {
    return await use(step);
  } finally {
    await session.close();
  }
}

/**
 * Whether the decoder that goes on from its cache says what the whole decoder says; measured on two rows whose texts and
 * answers have different lengths. Exporters trace it at one length.
 * @throws PtunedError missing_file, damaged_model, import_refused where it cannot be read
 */
export async function tryGenerating(lm: Inspected): Promise<boolean> {
  const { encoded, steps } = lm;
  if (encoded === null || steps === null) return false;
  try {
    return await stepsAgree(lm, encoded);
  } catch (error) {
    // What the runtime refuses is no reason to refuse an LM that trains.
    if (error instanceof PtunedError && error.code === 'internal') return false;
    throw error;
  }
}

/** Ordinary tokens that answers go on with: some LMs count positions without padding, so that it would stand for nothing. */
const answered = [6, 5, 7];

async function stepsAgree(lm: Inspected, encoded: string): Promise<boolean> {
  const predictor = await createAnsweringPredictor(lm, encoded, { ...options, directory: lm.graphDirectory });
  try {
    const [batch, table] = [trialBatch(lm), trialTable(lm)];
    const decoding = await predictor.decode(batch, table);
    for (const [step, token] of answered.entries()) {
      await decoding.advance([token, token]);
      const whole = await predictor.logits(withAnswers(batch, answered.slice(0, step + 1)), table);
      if (differ(decoding.logits, whole) > tolerance) return false;
    }
    return true;
  } finally {
    await predictor.close();
  }
}

/** A batch whose rows go on with these tokens behind their targets. */
function withAnswers(batch: LmBatch, tokens: readonly number[]): LmBatch {
  const { length } = batch.decoder!;
  const longer = length + tokens.length;
  const ids = new BigInt64Array(batch.rows * longer);
  for (const [row, target] of batch.targets.entries()) {
    const begun = batch.decoder!.ids.subarray(row * length, row * length + Number(target) + 1);
    ids.set([...begun, ...tokens.map(BigInt)], row * longer);
  }
  const targets = batch.targets.map((target) => target + BigInt(tokens.length));
  return { ...batch, targets, decoder: { length: longer, ids } };
}

function trialTable({ embedding: { width } }: Inspected): PromptTable {
  return { rows: 1, width, values: Float32Array.from({ length: width }, (_, i) => 0.1 * Math.sin(i)) };
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
