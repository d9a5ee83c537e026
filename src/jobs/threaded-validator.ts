/** A job validator in a thread of its own, started when first needed and again when it died. */
import { Worker } from 'node:worker_threads';
import { fromFailureRecord, PtunedError } from '../errors.ts';
import type { JobValidator, ValidJob } from './validate.ts';
import type { ValidationAnswer, ValidationCall } from './validation-thread.ts';

export interface ThreadedValidator {
  /** Rejects with what src/jobs/validate.ts throws. */
  validate: JobValidator;
  close(): Promise<void>;
}

interface Waiting {
  resolve(job: ValidJob): void;
  reject(error: unknown): void;
}

interface Thread {
  worker: Worker;
  waiting: Map<number, Waiting>;
}

export function createThreadedValidator(dataDirectory: string): ThreadedValidator {
  let thread: Thread | null = null;
  let asked = 0;

  function start(): Thread {
    const worker = new Worker(threadEntry(), { workerData: { dataDirectory }, name: 'validation' });
    const waiting = new Map<number, Waiting>();
    const started: Thread = { worker, waiting };
    worker.on('message', ({ id, ...answer }: ValidationAnswer) => {
      const call = waiting.get(id);
      waiting.delete(id);
      // Without a call it keeps no process alive.
      if (waiting.size === 0) worker.unref();
      if ('failure' in answer) call?.reject(fromFailureRecord(answer.failure));
      else call?.resolve(answer.job);
    });
    const lose = (cause?: unknown) => {
      if (thread === started) thread = null;
      const error = new PtunedError('internal', 'The validation of the job broke off; try again.', { cause });
      for (const { reject } of waiting.values()) reject(error);
      waiting.clear();
    };
    worker.on('error', lose);
    worker.on('exit', () => lose());
    return started;
  }

  return {
    validate: (request, owner) =>
      new Promise((resolve, reject) => {
        thread ??= start();
        const id = asked++;
        thread.waiting.set(id, { resolve, reject });
        thread.worker.ref();
        thread.worker.postMessage({ id, request, owner } satisfies ValidationCall);
      }),
    async close() {
      await thread?.worker.terminate();
    },
  };
}

/** validation-thread beside this file: .js when built; from source it is .ts, and tsx does not follow into threads. */
function threadEntry(): URL {
  if (!import.meta.url.endsWith('.ts')) return new URL('./validation-thread.js', import.meta.url);
  const entry = JSON.stringify(new URL('./validation-thread.ts', import.meta.url).href);
  const tsx = JSON.stringify(import.meta.resolve('tsx/esm/api'));
  return new URL(`data:text/javascript,import { register } from ${tsx}; register(); await import(${entry});`);
}
