/**
 * A frozen LM in a thread of its own. onnxruntime blocks the thread that calls it; here that is never the server's, so
 * requests keep arriving, being refused and going away while an LM runs.
 */
import { Worker } from 'node:worker_threads';
import { fromFailureRecord, PtunedError } from '../errors.ts';
import type { Decoding, LmOptions, Predictor } from '../lm/types.ts';
import type { ModelManifest } from '../models/manifest.ts';
import type { AnswerMessage, Call, CallMessage, DecodingState, Result } from './lm-protocol.ts';

/** What serving needs of an open LM; src/lm/types.ts's Lm is one too. */
export interface ServingLm {
  predictor(): Promise<Predictor>;
  close(): Promise<void>;
  /** Resolves with the reason when the LM is gone without having been closed. */
  readonly lost?: Promise<unknown>;
}

export type OpenServingLm = (manifest: ModelManifest, options: LmOptions) => Promise<ServingLm>;

type Ask = <T extends Result>(call: Call) => Promise<T>;

/** Opens an LM in a thread. Rejects with what src/lm/open.ts throws there. */
export const openThreadedLm: OpenServingLm = async (manifest, options) => {
  const worker = new Worker(threadEntry(), { workerData: { manifest, options }, name: `lm ${manifest.id}` });
  const { ask, lost } = createCaller(worker, manifest.id);
  try {
    await ask({ op: 'ready' });
  } catch (error) {
    await worker.terminate();
    throw error;
  }
  return {
    lost,
    predictor: async () => createPredictor(ask),
    async close() {
      await ask({ op: 'close' }).catch(() => worker.terminate());
      await lost;
    },
  };
};

/** lm-thread beside this file: .js when built; run from source it is .ts, and tsx does not follow into threads itself. */
function threadEntry(): URL {
  if (!import.meta.url.endsWith('.ts')) return new URL('./lm-thread.js', import.meta.url);
  const entry = JSON.stringify(new URL('./lm-thread.ts', import.meta.url).href);
  const tsx = JSON.stringify(import.meta.resolve('tsx/esm/api'));
  return new URL(`data:text/javascript,import { register } from ${tsx}; register(); await import(${entry});`);
}

function createCaller(worker: Worker, name: string): { ask: Ask; lost: Promise<unknown> } {
  const waiting = new Map<number, { resolve(value: never): void; reject(error: unknown): void }>();
  let asked = 0;
  let gone: PtunedError | null = null;
  const lost = new Promise<unknown>((resolve) => {
    const fail = (cause: unknown) => {
      gone ??= new PtunedError('inference_unavailable', `The LM "${name}" stopped; try again.`, { cause });
      for (const { reject } of waiting.values()) reject(gone);
      waiting.clear();
      resolve(gone);
    };
    worker.on('error', fail);
    worker.on('exit', (code) => fail(new Error(`its thread ended with code ${code}`)));
  });
  worker.on('message', (message: AnswerMessage) => {
    const call = waiting.get(message.id);
    waiting.delete(message.id);
    if ('failure' in message) call?.reject(fromFailureRecord(message.failure));
    else call?.resolve(message.result as never);
  });
  const ask: Ask = (call) =>
    new Promise((resolve, reject) => {
      if (gone !== null) return reject(gone);
      const id = asked++;
      waiting.set(id, { resolve, reject });
      worker.postMessage({ id, call } satisfies CallMessage);
    });
  return { ask, lost };
}

function createPredictor(ask: Ask): Predictor {
  return {
    logits: (batch, table) => ask<Float32Array>({ op: 'logits', batch, table }),
    decode: async (batch, table) => createDecoding(ask, await ask<DecodingState>({ op: 'decode', batch, table })),
    // The thread's predictor lives as long as its LM.
    close: async () => undefined,
  };
}

function createDecoding(ask: Ask, first: DecodingState): Decoding {
  let { rows, logits } = first;
  return {
    get rows() {
      return rows;
    },
    get logits() {
      return logits;
    },
    async advance(tokens) {
      ({ rows, logits } = await ask<DecodingState>({ op: 'advance', decoding: first.decoding, rows, tokens }));
    },
    keep(kept) {
      rows = [...kept];
      // The answer tells nothing that the next call would not tell.
      if (rows.length === 0) void ask({ op: 'drop', decoding: first.decoding }).catch(() => undefined);
    },
  };
}
