/** A training child as its worker sees it: started, heard, stopped, and killed when it does not listen. */
import { type ChildProcess, fork } from 'node:child_process';
import type { FailureRecord } from '../../src/errors.ts';
import type { JobResult } from '../../src/jobs/contract.ts';
import type { TuningJob } from '../../src/tuning/types.ts';
import type { FromChild, StopReason, ToChild } from './protocol.ts';

export type ChildOutcome =
  | { kind: 'succeeded'; result: JobResult }
  | { kind: 'failed'; error: FailureRecord }
  /** Because it was asked to; `isClean` is false when it had to be killed. */
  | { kind: 'stopped'; isClean: boolean }
  | { kind: 'crashed'; how: string };

export interface TrainingChild {
  /** Never rejects; resolves when the process has ended. */
  readonly outcome: Promise<ChildOutcome>;
  /** Asks it to stop at the next batch, and kills it when it has not after so many milliseconds. */
  stop(reason: StopReason, milliseconds: number): void;
}

export interface ChildOptions {
  /** The script: workers/tuning-child.ts, or another that speaks the same protocol. */
  script: string;
  job: TuningJob;
  /** It is killed when it has made no batch for so long. */
  stepSeconds: number;
  /** Told everything but the outcome. */
  onMessage(message: FromChild): void;
}

/** After its last message it has this long to end by itself. */
const lingerMilliseconds = 5000;

export function startChild({ script, job, stepSeconds, onMessage }: ChildOptions): TrainingChild {
  const child = fork(script, [], { stdio: ['ignore', 2, 2, 'ipc'], execArgv: process.execArgv });
  let told: ChildOutcome | null = null;
  let killed: string | null = null;
  let isStopping = false;
  let failure = '';
  const kill = (why: string) => {
    killed ??= why;
    child.kill('SIGKILL');
  };
  const timers = new Set<NodeJS.Timeout>();
  const later = (milliseconds: number, work: () => void) => timers.add(setTimeout(work, milliseconds));
  const watch = watchSteps(stepSeconds, () => kill(`made no step for ${stepSeconds} s`));

  child.on('message', (message: FromChild) => {
    watch.alive();
    if (message.type !== 'outcome' && message.type !== 'failed') return onMessage(message);
    told = message.type === 'failed' ? { kind: 'failed', error: message.error } : toOutcome(message.outcome);
    later(lingerMilliseconds, () => kill('did not end'));
  });
  child.on('error', (error) => {
    failure = error.message;
  });
  send(child, { type: 'start', job });

  return {
    outcome: new Promise((resolve) => {
      const end = (code: number | null, signal: NodeJS.Signals | null) => {
        watch.stop();
        for (const timer of timers) clearTimeout(timer);
        if (told !== null) resolve(told);
        else if (isStopping) resolve({ kind: 'stopped', isClean: false });
        else resolve({ kind: 'crashed', how: killed ?? (failure || describeExit(code, signal)) });
      };
      child.once('exit', (code, signal) => end(code, signal));
      // A process that could not be started never exits.
      child.once('error', () => child.pid === undefined && end(null, null));
    }),
    stop(reason, milliseconds) {
      isStopping = true;
      send(child, { type: 'stop', reason });
      later(milliseconds, () => kill('did not stop'));
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
