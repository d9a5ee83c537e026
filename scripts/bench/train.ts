/** Training steps measured case by case, in turns with the peer where one is given, beside what the machine can do. */
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { inspectDirectory } from '../../src/lm/inspect.ts';
import { trainProgram } from '../../src/lm/programs.ts';
import type { EncoderType } from '../../src/prompts/schema.ts';
import { vocabularyCandidates } from '../../src/tuning/reference.ts';
import { bindBatch } from './batch.ts';
import { inChild } from './child.ts';
import { costOf, encoderBytes, type StepCost } from './cost.ts';
import { type BenchLm, importedLm } from './lms.ts';
import type { Machine } from './machine.ts';
import { type Peer, type PeerTimes, trainPeer } from './peer.ts';
import { type OpTime, opTimes } from './profile.ts';
import { median, minimum } from './statistics.ts';
import type { Part, TrainTask, TrainTimes } from './train-child.ts';
import type { Taken } from './watch.ts';

export interface TrainCase {
  lm: BenchLm;
  batch: number;
  length: number;
  virtual: number;
  encoder: EncoderType;
}

export interface TrainSettings {
  steps: number;
  threads: number;
  /** Fresh processes of each side, ours and the peer's in turns. */
  rounds: number;
  peer: Peer | null;
  profile: boolean;
}

export interface TrainResult extends Taken {
  lm: string;
  batch: number;
  length: number;
  virtual: number;
  encoder: EncoderType;
  /** Over all rounds, milliseconds. */
  medianMs: number;
  minMs: number;
  /** Of the shortest step. */
  parts: Record<Part, number>;
  openMs: number;
  cost: StepCost & { encoderBytes: number };
  /** Operations a second while the LM runs. */
  flops: number;
  /** Milliseconds that the LM's operations and the step's bytes take at the machine's rates. */
  bounds: { computeMs: number; memoryMs: number };
  peer: (PeerTimes & { ratios: number[]; ratioMin: number; ratioMedian: number }) | null;
  ops: OpTime[] | null;
}

export async function measureTraining(one: TrainCase, settings: TrainSettings, machine: Machine): Promise<TrainResult> {
  const manifest = await importedLm(one.lm);
  const { batch, length, virtual, encoder } = one;
  const { steps, threads, peer } = settings;
  const task: TrainTask = {
    ...{ manifest, batch, length, virtual, encoder, steps, threads },
    target: one.lm.target(length),
    profile: null,
  };
  const ours: (TrainTimes & Taken)[] = [];
  const theirs: PeerTimes[] = [];
  for (let round = 0; round < settings.rounds; round++) {
    ours.push(await inChild<TrainTimes>('train-child', task));
    if (peer === null || one.lm.peer === null) continue;
    theirs.push(await trainPeer(peer, { lm: one.lm.peer, batch, length, virtual, encoder, steps, threads }));
  }
  const ops = settings.profile ? await profiled(task) : null;
  const cost = { ...stepCost(task), encoderBytes: encoderBytes(ours[0]!.parameters) };
  const all = ours.flatMap((times) => times.steps);
  const best = ours.reduce((a, b) => (minimum(b.steps) < minimum(a.steps) ? b : a));
  const operations = cost.forward + cost.backward;
  return {
    ...{ lm: one.lm.name, batch, length, virtual, encoder },
    medianMs: median(all),
    minMs: minimum(all),
    parts: best.parts,
    openMs: minimum(ours.map((times) => times.openMs)),
    ...most(ours),
    cost,
    flops: operations / (best.parts.lm / 1000),
    bounds: {
      computeMs: (1000 * operations) / machine.sgemm,
      memoryMs: (1000 * (cost.weightBytes + cost.keptBytes + cost.encoderBytes)) / machine.stream,
    },
    peer: theirs.length === 0 ? null : compared(ours, theirs),
    ops,
  };
}

/** Ratios of medians, pair by pair: what disturbs the machine for a while disturbs both of a pair. */
function compared(ours: readonly TrainTimes[], theirs: readonly PeerTimes[]): NonNullable<TrainResult['peer']> {
  const ratios = theirs.map((times, i) => times.medianMs / median(ours[i]!.steps));
  return {
    medianMs: median(theirs.map((times) => times.medianMs)),
    minMs: minimum(theirs.map((times) => times.minMs)),
    ...most(theirs),
    ratios,
    ratioMin: minimum(ratios),
    ratioMedian: median(ratios),
  };
}

function most(all: readonly Taken[]): Taken {
  return {
    peakBytes: Math.max(...all.map((one) => one.peakBytes)),
    others: Math.max(...all.map((one) => one.others)),
  };
}

function stepCost(task: TrainTask): StepCost {
  const { directory, redundant, vocabularySize } = task.manifest;
  const lm = { ...inspectDirectory(directory), redundant };
  const program = trainProgram(lm, vocabularyCandidates(vocabularySize));
  return costOf(program, bindBatch(task, vocabularySize, program.sharesPrefixes));
}

/** A run of its own: writing the profile costs time. */
async function profiled(task: TrainTask): Promise<OpTime[]> {
  const prefix = join(mkdtempSync(join(tmpdir(), 'ptuned-profile-')), 'session');
  await inChild<TrainTimes>('train-child', { ...task, profile: prefix });
  return opTimes(prefix);
}
