/** One process of the service under its supervisor: started, started again when it dies, stopped. */
import { type ChildProcess, fork } from 'node:child_process';
import { setTimeout } from 'node:timers/promises';
import { type FailureRecord, fromFailureRecord, PtunedError } from '../src/errors.ts';
import type { Logger } from '../src/logger.ts';
import type { RoleMessage } from './lifecycle.ts';

export interface RoleProcess {
  /** Where it listens, if it does. */
  readonly url: string | null;
  /** SIGTERM, and SIGKILL when that was not enough. */
  stop(): Promise<void>;
}

export interface RoleOptions {
  name: string;
  script: string;
  /** Environment; for a restart it is asked again with the URL the first start had. */
  environment(url: string | null): Record<string, string>;
  logger: Logger;
}

/** A process ends by itself within 9.5 s. */
const stopMilliseconds = 11_000;
const firstPause = 500;
const longestPause = 30_000;
/** A process that lived for so long is started again at once. */
const stableMilliseconds = 60_000;

/** Resolves when the process is ready for the first time; throws what kept it from that. */
export async function startRole({ name, script, environment, logger }: RoleOptions): Promise<RoleProcess> {
  let isStopping = false;
  let pause = firstPause;
  let url: string | null = null;
  let child = spawn();
  try {
    url = await readiness(child, name);
  } catch (error) {
    await end(child);
    throw error;
  }
  watch();

  function spawn(): ChildProcess {
    return fork(script, [], {
      stdio: ['ignore', 2, 2, 'ipc'],
      env: { ...process.env, ...environment(url) },
      execArgv: process.execArgv,
    });
  }

  function watch(): void {
    const begun = Date.now();
    child.once('exit', (code, signal) => {
      if (isStopping) return;
      if (Date.now() - begun > stableMilliseconds) pause = firstPause;
      logger.error({ role: name, code, signal, pause }, 'process has died; it is started again');
      void revive();
    });
  }

  async function revive(): Promise<void> {
    await setTimeout(pause);
    pause = Math.min(2 * pause, longestPause);
    if (isStopping) return;
    child = spawn();
    watch();
    readiness(child, name).then(
      () => logger.info({ role: name }, 'process is back'),
      (error) => logger.error({ err: error, role: name }, 'process did not start'),
    );
  }

  return {
    get url() {
      return url;
    },
    async stop() {
      isStopping = true;
      await end(child);
    },
  };
}

/** Its URL when it says that it is ready. */
function readiness(child: ChildProcess, name: string): Promise<string | null> {
  return new Promise((resolve, reject) => {
    const fail = (failure: FailureRecord) => reject(fromFailureRecord(failure));
    child.on('message', (message: RoleMessage) => {
      if (message.type === 'ready') resolve(message.url);
      else fail(message.error);
    });
    child.once('error', reject);
    child.once('exit', (code, signal) =>
      reject(
        new PtunedError(
          'internal',
          `The ${name} process ended before it was ready (${signal ?? `exit code ${code}`}).`,
        ),
      ),
    );
  });
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null || child.pid === undefined) return;
  const exited = new Promise<void>((resolve) => child.once('exit', () => resolve()));
  child.kill('SIGTERM');
  const isDone = await Promise.race([exited.then(() => true), setTimeout(stopMilliseconds, false, { ref: false })]);
  if (isDone) return;
  child.kill('SIGKILL');
  await exited;
}
