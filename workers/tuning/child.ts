/** A training child as its worker sees it: started, given jobs, heard, stopped, and killed when it does not listen. */
import { type ChildProcess, fork } from 'node:child_process';
import type { FailureRecord } from '../../src/errors.ts';
import type { JobResult } from '../../src/jobs/contract.ts';
import type { TuningJob } from '../../src/tuning/types.ts';
import type { FromChild, StopReason, ToChild, Told } from './protocol.ts';

export type ChildOutcome =
  | { kind: 'succeeded'; result: JobResult }
  | { kind: 'failed'; error: FailureRecord }
  /** Because it was asked to; `isClean` is false when the child had to be killed. */
  | { kind: 'stopped'; isClean: boolean }
  /** `wasHeard` is false when the child ended without a word about this job. */
  | { kind: 'crashed'; how: string; wasHeard: boolean };

/** A job in a child. */
export interface TrainingJob {
  /** Never rejects. */
  readonly outcome: Promise<ChildOutcome>;
  /** Asks to stop it at the next batch, and kills the child when it has not after so many milliseconds. */
  stop(reason: StopReason, milliseconds: number): void;
}

export interface TrainingChild {
  /** Resolves when the process has ended. */
  readonly ended: Promise<void>;
  /** Its resident set in bytes when its last job ended, 0 before. */
  readonly memory: number;
  /** Trains a job, beside those it trains already. `onTold` hears everything but the outcome. */
  train(job: TuningJob, onTold: (told: Told) => void): TrainingJob;
  /** Ends it; no job may run. */
  end(): void;
}

export interface ChildOptions {
  /** The script: workers/tuning-child.ts, or another that speaks the same protocol. */
  script: string;
  /** It is killed when none of its jobs has made a batch for so long. */
  stepSeconds: number;
}

interface Running {
  heard: boolean;
  isStopping: boolean;
  timers: NodeJS.Timeout[];
  onTold(told: Told): void;
  finish(outcome: ChildOutcome): void;
}

/** When it is to end it has this long to do so by itself. */
const lingerMilliseconds = 2000;

export function startChild({ script, stepSeconds }: ChildOptions): TrainingChild {
  const child = fork(script, [], { stdio: ['ignore', 2, 2, 'ipc'], execArgv: process.execArgv });
  const running = new Map<string, Running>();
  let killed: string | null = null;
  let failure = '';
  let memory = 0;
  const kill = (why: string) => {
    killed ??= why;
    child.kill('SIGKILL');
  };
  const watch = watchSteps(stepSeconds, () => running.size > 0 && kill(`made no step for ${stepSeconds} s`));

  const finish = (id: string, outcome: ChildOutcome) => {
    const job = running.get(id);
    for (const timer of job?.timers ?? []) clearTimeout(timer);
    running.delete(id);
    job?.finish(outcome);
  };
  child.on('message', ({ job: id, ...told }: FromChild) => {
    watch.alive();
    const job = running.get(id);
    if (job === undefined) return;
    job.heard = true;
    if (told.type !== 'outcome' && told.type !== 'failed') return job.onTold(told);
    memory = told.memory;
    finish(id, told.type === 'failed' ? { kind: 'failed', error: told.error } : toOutcome(told.outcome));
  });
  child.on('error', (error) => {
    failure = error.message;
  });
  const ended = new Promise<void>((resolve) => {
    const end = (code: number | null, signal: NodeJS.Signals | null) => {
      watch.stop();
      const how = killed ?? (failure || describeExit(code, signal));
      for (const [id, { isStopping, heard }] of [...running]) {
        finish(id, isStopping ? { kind: 'stopped', isClean: false } : { kind: 'crashed', how, wasHeard: heard });
      }
      resolve();
    };
    child.once('exit', end);
    // A process that could not be started never exits.
    child.once('error', () => child.pid === undefined && end(null, null));
  });

  return {
    ended,
    get memory() {
      return memory;
    },
    train(job, onTold) {
      const { id } = job.spec;
      watch.alive();
      const outcome = new Promise<ChildOutcome>((resolve) => {
        running.set(id, { heard: false, isStopping: false, timers: [], onTold, finish: resolve });
      });
      // Where it has ended already, its end is not told again.
      if (!child.connected) finish(id, { kind: 'crashed', how: failure || 'had ended', wasHeard: false });
      send(child, { type: 'start', job });
      return {
        outcome,
        stop(reason, milliseconds) {
          const one = running.get(id);
          if (one === undefined) return;
          one.isStopping = true;
          send(child, { type: 'stop', job: id, reason });
          one.timers.push(setTimeout(() => kill('did not stop'), milliseconds));
        },
      };
    },
    end() {
      send(child, { type: 'end' });
      const timer = setTimeout(() => kill('did not end'), lingerMilliseconds);
      void ended.then(() => clearTimeout(timer));
    },
  };
}

function send(child: ChildProcess, message: ToChild): void {
  // It may have ended meanwhile; its exit tells.
  if (child.connected) child.send(message, () => {});
}

function toOutcome(outcome: Extract<FromChild, { type: 'outcome' }>['outcome']): ChildOutcome {
  return outcome.kind === 'succeeded' ? outcome : { kind: 'stopped', isClean: true };
}

function describeExit(code: number | null, signal: NodeJS.Signals | null): string {
  if (signal === 'SIGKILL') return 'was killed (SIGKILL: most often for want of memory)';
  return signal === null ? `ended with exit code ${code}` : `was ended by ${signal}`;
}

/** Calls `hung` when `alive` was not called for so long, a pause of this process itself not counted. */
function watchSteps(seconds: number, hung: () => void) {
  const interval = Math.min(seconds * 250, 5000);
  let quiet = 0;
  const timer = setInterval(() => {
    quiet += interval;
    if (quiet > seconds * 1000) hung();
  }, interval);
  return {
    alive: () => {
      quiet = 0;
    },
    stop: () => clearInterval(timer),
  };
}
