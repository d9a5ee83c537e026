/**
 * The training children of a worker. One that has trained a job lives on for the next of the same LM, whose sessions it
 * keeps open; with packing, several jobs of one LM run in one child and share its batches.
 */
import type { Config } from '../../src/config.ts';
import type { TuningJob } from '../../src/tuning/types.ts';
import { type ChildOutcome, startChild, type TrainingChild, type TrainingJob } from './child.ts';
import type { Told } from './protocol.ts';
import { createTurns, type Turn } from './turns.ts';

export interface PoolOptions {
  script: string;
  config: Pick<Config, 'stepSeconds' | 'tuningSlots' | 'packing' | 'keepSeconds'>;
}

/** `job` is the job's id. */
export interface PlaceRequest extends Turn {
  /** What jobs must have in common to use the same sessions. */
  lm: string;
  /** Shares no child: one of the jobs in a child that crashed may be the reason. */
  isAlone: boolean;
}

/** Room for one job. */
export interface Place {
  /** Trains the job there. It is over when its outcome is; a place that is not used has to be left. */
  train(job: TuningJob, onTold: (told: Told) => void): TrainingJob;
  leave(): void;
}

export interface ChildPool {
  /** Waits for room at most so long, in the order of the requests; null when there is none by then. */
  place(request: PlaceRequest, milliseconds: number): Promise<Place | null>;
  /** Nobody gets a place any more; idle children end. */
  close(): void;
}

/** A child's memory may grow to so many times what it was after its first job, and so many bytes more. */
const memoryGrowth = 1.5;
const memorySlack = 256 << 20;

interface Member {
  child: TrainingChild;
  lm: string;
  /** Places given out and not over, and jobs that ended well before. */
  jobs: number;
  served: number;
  isAlone: boolean;
  /** It gets no further job. */
  isRetired: boolean;
  /** Resident set after its first job. */
  firstMemory: number;
  idle: NodeJS.Timeout | null;
}

export function createChildPool({ script, config }: PoolOptions): ChildPool {
  const { stepSeconds, tuningSlots, packing, keepSeconds } = config;
  const members = new Set<Member>();
  let isClosed = false;
  const turns = createTurns((request: PlaceRequest) => {
    const member = find(request);
    return member === null ? null : take(member, request.isAlone);
  });

  function start(lm: string, isAlone: boolean): Member {
    const child = startChild({ script, stepSeconds });
    const member: Member = { child, lm, jobs: 0, served: 0, isAlone, isRetired: false, firstMemory: 0, idle: null };
    members.add(member);
    void child.ended.then(() => {
      stopIdling(member);
      member.isRetired = true;
      members.delete(member);
      turns.serve();
    });
    return member;
  }

  /** A member with room for the request, or null. What stands in its way is ended; it asks again then. */
  function find({ lm, isAlone }: PlaceRequest): Member | null {
    const usable = [...members].filter((one) => !one.isRetired && one.lm === lm);
    const shared = usable.find((one) => one.jobs > 0 && one.jobs < packing && !one.isAlone && !isAlone);
    const found = shared ?? usable.find((one) => one.jobs === 0);
    if (found !== undefined) return found;
    if (members.size < tuningSlots) return start(lm, isAlone);
    const idle = [...members].find((one) => one.jobs === 0 && !one.isRetired);
    if (idle !== undefined) retire(idle);
    return null;
  }

  function take(member: Member, isAlone: boolean): Place {
    if (member.jobs === 0) member.isAlone = isAlone;
    member.jobs++;
    stopIdling(member);
    return createPlace(member, () => leave(member));
  }

  function leave(member: Member): void {
    member.jobs--;
    if (member.jobs === 0 && members.has(member)) {
      if (member.isRetired || isClosed || keepSeconds === 0) retire(member);
      else member.idle = setTimeout(() => retire(member), keepSeconds * 1000);
    }
    turns.serve();
  }

  return {
    place: turns.take,
    close() {
      isClosed = true;
      turns.close();
      for (const member of members) retire(member);
    },
  };
}

function stopIdling(member: Member): void {
  if (member.idle !== null) clearTimeout(member.idle);
  member.idle = null;
}

function retire(member: Member): void {
  member.isRetired = true;
  stopIdling(member);
  if (member.jobs === 0) member.child.end();
}

/** Whether what a child remembers of a job may serve the next one. */
function isSound(member: Member, outcome: ChildOutcome): boolean {
  if (outcome.kind === 'crashed' || (outcome.kind === 'stopped' && !outcome.isClean)) return false;
  if (outcome.kind === 'failed' && ['internal', 'out_of_memory'].includes(outcome.error.code)) return false;
  member.firstMemory ||= member.child.memory;
  return member.child.memory <= member.firstMemory * memoryGrowth + memorySlack;
}

function createPlace(member: Member, leave: () => void): Place {
  return {
    train(job, onTold) {
      const { served } = member;
      const training = member.child.train(job, onTold);
      const outcome = training.outcome.then((end): ChildOutcome => {
        if (isSound(member, end)) member.served++;
        else member.isRetired = true;
        leave();
        // A child that ended while nobody used it says nothing about the job that was given to it too late.
        const isTooLate = end.kind === 'crashed' && !end.wasHeard && served > 0;
        return isTooLate ? { kind: 'stopped', isClean: false } : end;
      });
      return { outcome, stop: training.stop };
    },
    leave,
  };
}
