/** Runs an LM program on a batch. */
import { byDepth } from '../autodiff/order.ts';
import { createSession, type Feed, type Session, type SessionOptions } from '../onnx/session.ts';
import { feeds } from './feeds.ts';
import { packingFeeds } from './packing-feeds.ts';
import type { Program } from './programs.ts';
import type { LmBatch, PromptTable, ScoreResult, StepResult, Trainer } from './types.ts';

export interface ProgramRunner {
  /** Data of the program's outputs, in their order. Feeds the program does not read are left out. */
  run(all: Record<string, Feed>): Promise<Feed['data'][]>;
  /** Only these outputs, with their shapes: what is not asked for is not copied out. */
  fetch(all: Record<string, Feed>, outputs: readonly string[]): Promise<Feed[]>;
  close(): Promise<void>;
}

export async function openProgram(program: Program, options: SessionOptions): Promise<ProgramRunner> {
  return runnerOn(await openGraph(program, options), program);
}

/** Opens a program's graph, which may be run as several programs that differ in how it is fed. */
export function openGraph({ model }: Program, options: SessionOptions): Promise<Session> {
  const { graph } = model;
  return createSession({ ...model, graph: { ...graph, nodes: byDepth(graph.nodes) } }, options);
}

/** Outputs of a session in their order, from feeds of which it takes those that it declares. */
export async function fetchFrom(
  session: Session,
  all: Record<string, Feed>,
  outputs: readonly string[],
): Promise<Feed[]> {
  const results = await session.run(Object.fromEntries(session.inputs.map((name) => [name, all[name]!])), outputs);
  return outputs.map((name) => results[name]!);
}

export function runnerOn(session: Session, program: Program): ProgramRunner {
  const isPacked = session.inputs.includes(feeds.packed);
  const apart = session.inputs.includes(feeds.early);
  const fetch: ProgramRunner['fetch'] = async (given, outputs) => {
    const all = isPacked ? { ...given, ...packingOf(given, program.sharesPrefixes, apart) } : given;
    return fetchFrom(session, all, outputs);
  };
  return {
    run: async (given) => (await fetch(given, program.outputs)).map(({ data }) => data),
    fetch,
    close: () => session.close(),
  };
}

function packingOf(given: Record<string, Feed>, shares: boolean, apart: boolean): Record<string, Feed> {
  const of = (name: string) => given[name]!.data as BigInt64Array;
  const [rows, length] = given[feeds.ids]!.dims as [number, number];
  const batch = { rows, length, ids: of(feeds.ids), mask: of(feeds.mask), slots: of(feeds.slots) };
  return packingFeeds(batch, of(feeds.targets), shares, { apart });
}

/** For programs that read no prompt rows. */
export const noTable: PromptTable = { rows: 1, width: 1, values: new Float32Array(1) };

/** A training program as a trainer. */
export function trainerOn(runner: ProgramRunner): Trainer {
  return {
    step: async (batch, labels, table, weights) =>
      stepResult(await runner.run(batchFeeds(batch, table, labels, weights))),
    close: runner.close,
  };
}

/** What a training program yields. */
export function stepResult([loss, gradient, losses]: readonly Feed['data'][]): StepResult {
  return { loss: (loss as Float32Array)[0]!, losses: losses as Float32Array, gradient: gradient as Float32Array };
}

/** What a scoring program yields first. */
export function scoreResult([loss, rank, best]: readonly Feed['data'][]): ScoreResult {
  return {
    loss: loss as Float32Array,
    rank: rank as Int32Array,
    best: Int32Array.from(best as BigInt64Array, Number),
  };
}

/** Feeds of a batch with its table; labels where the program takes them, and weights [rows], 1/rows where not given. */
export function batchFeeds(
  batch: LmBatch,
  table: PromptTable,
  labels?: BigInt64Array,
  weights: Float32Array = new Float32Array(batch.rows).fill(1 / batch.rows),
): Record<string, Feed> {
  const whole = [batch.rows, batch.length];
  const { decoder } = batch;
  return {
    [feeds.ids]: { dtype: 'int64', dims: whole, data: batch.ids },
    [feeds.mask]: { dtype: 'int64', dims: whole, data: batch.mask },
    [feeds.slots]: { dtype: 'int64', dims: whole, data: batch.slots },
    [feeds.targets]: { dtype: 'int64', dims: [batch.rows, 1], data: batch.targets },
    ...(decoder === undefined
      ? {}
      : { [feeds.decoderIds]: { dtype: 'int64', dims: [batch.rows, decoder.length], data: decoder.ids } }),
    [feeds.table]: { dtype: 'float32', dims: [table.rows, table.width], data: table.values },
    [feeds.weights]: { dtype: 'float32', dims: [batch.rows, 1], data: weights },
    ...(labels === undefined ? {} : { [feeds.labels]: { dtype: 'int64', dims: [batch.rows, 1], data: labels } }),
  };
}
