/**
 * The training children of a worker. One that has trained a job lives on for the next of the same LM, whose sessions it
 * keeps open; with packing, several jobs of one LM run in one child and share its batches.
 */
import type { Config } from '../../src/config.ts';
import type { TuningJob } from '../../src/tuning/types.ts';
import { type ChildOutcome, startChild, type TrainingChild, type TrainingJob } from './child.ts';
import type { Told } from './protocol.ts';

export interface PoolOptions {
  script: string;
  config: Pick<Config, 'stepSeconds' | 'tuningSlots' | 'packing' | 'keepSeconds'>;
}

export interface PlaceRequest {
  /** The job's id. */
  job: string;
  /** What jobs must have in common to use the same sessions. */
  lm: string;
  /** Of jobs that ask for a place the one with the lowest number is served first. */
  order: number;
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

interface Waiting extends PlaceRequest {
  /** It was told that there is no room, and may come back: nobody is to slip past it meanwhile. */
  isGone: boolean;
  answer(place: Place | null): void;
}

/** How long a request that found no room keeps its turn. */
const absentMilliseconds = 1000;

export function createChildPool({ script, config }: PoolOptions): ChildPool {
  const { stepSeconds, tuningSlots, packing, keepSeconds } = config;
  const members = new Set<Member>();
  const waiting: Waiting[] = [];
  let isClosed = false;

  function start(lm: string, isAlone: boolean): Member {
    const child = startChild({ script, stepSeconds });
    const member: Member = { child, lm, jobs: 0, served: 0, isAlone, isRetired: false, firstMemory: 0, idle: null };
    members.add(member);
    void child.ended.then(() => {
      if (member.idle !== null) clearTimeout(member.idle);
      member.isRetired = true;
      members.delete(member);
      serve();
    });
    return member;
  }

  function retire(member: Member): void {
    member.isRetired = true;
    if (member.idle !== null) clearTimeout(member.idle);
    if (member.jobs === 0) member.child.end();
  }

  /** Whether what a child remembers of a job may serve the next one. */
  function isSound(member: Member, outcome: ChildOutcome): boolean {
    if (outcome.kind === 'crashed' || (outcome.kind === 'stopped' && !outcome.isClean)) return false;
    if (outcome.kind === 'failed' && ['internal', 'out_of_memory'].includes(outcome.error.code)) return false;
    member.firstMemory ||= member.child.memory;
    return member.child.memory <= member.firstMemory * memoryGrowth + memorySlack;
  }

  function leave(member: Member): void {
    member.jobs--;
    if (member.jobs === 0 && members.has(member)) {
      if (member.isRetired || isClosed || keepSeconds === 0) retire(member);
      else member.idle = setTimeout(() => retire(member), keepSeconds * 1000);
    }
    serve();
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
    if (member.idle !== null) clearTimeout(member.idle);
    member.idle = null;
    return createPlace(
      member,
      (outcome) => {
        if (isSound(member, outcome)) member.served++;
        else member.isRetired = true;
        leave(member);
      },
      () => leave(member),
    );
  }

  /** The first in the queue alone is looked at, so that no LM waits for ever behind jobs of another. */
  function serve(): void {
    for (;;) {
      const [first] = waiting;
      const member = first === undefined || first.isGone || isClosed ? null : find(first);
      if (member === null) return;
      waiting.shift();
      first!.answer(take(member, first!.isAlone));
    }
  }

  function forget(entry: Waiting): void {
    const at = waiting.indexOf(entry);
    if (at < 0) return;
    waiting.splice(at, 1);
    entry.answer(null);
    serve();
  }

  return {
    place: (request, milliseconds) =>
      new Promise((resolve) => {
        if (isClosed) return resolve(null);
        for (const one of waiting.filter(({ job }) => job === request.job)) forget(one);
        const entry: Waiting = {
          ...request,
          isGone: false,
          answer(place) {
            clearTimeout(timer);
            resolve(place);
          },
        };
        const timer = setTimeout(() => {
          entry.isGone = true;
          resolve(null);
          setTimeout(() => forget(entry), absentMilliseconds).unref();
        }, milliseconds);
        waiting.push(entry);
        waiting.sort((a, b) => a.order - b.order);
        serve();
      }),
    close() {
      isClosed = true;
      for (const one of waiting.splice(0)) one.answer(null);
      for (const member of members) retire(member);
    },
  };
}

function createPlace(member: Member, done: (outcome: ChildOutcome) => void, leave: () => void): Place {
  return {
    train(job, onTold) {
      const { served } = member;
      const training = member.child.train(job, onTold);
      const outcome = training.outcome.then((end): ChildOutcome => {
        done(end);
        // A child that ended while nobody used it says nothing about the job that was given to it too late.
        const isTooLate = end.kind === 'crashed' && !end.wasHeard && served > 0;
        return isTooLate ? { kind: 'stopped', isClean: false } : end;
      });
      return { outcome, stop: training.stop };
    },
    leave,
  };
}
