/** Entry point of an LM's thread: opens the LM of `workerData` and answers calls one after the other. */
import { parentPort, workerData } from 'node:worker_threads';
import { toFailureRecord } from '../errors.ts';
import { openLm } from '../lm/open.ts';
import type { Decoding } from '../lm/types.ts';
import { giveWay } from '../priority.ts';
import type { AnswerMessage, Call, CallMessage, DecodingState, Result, ThreadStart } from './lm-protocol.ts';
import { verifyFiles } from './verify.ts';

const { manifest, options } = workerData as ThreadStart;
giveWay();
const port = parentPort!;
const decodings = new Map<number, Decoding>();
let decodingsBegun = 0;

async function open() {
  await verifyFiles(manifest, [...manifest.files, ...(manifest.cachedDecoder ?? [])]);
  const lm = await openLm(manifest, options);
  return { lm, predictor: await lm.predictor() };
}

const opening = open();
// A failure to open is the answer to the first call.
opening.catch(() => undefined);

async function answer(call: Call): Promise<Result> {
  const { lm, predictor } = await opening;
  switch (call.op) {
    case 'ready':
      return null;
    case 'logits':
      return transferable(await predictor.logits(call.batch, call.table));
    case 'decode': {
      const decoding = await predictor.decode(call.batch, call.table);
      decodings.set(decodingsBegun, decoding);
      return stateOf(decodingsBegun++, decoding);
    }
    case 'advance': {
      const decoding = decodings.get(call.decoding)!;
      if (call.rows.length < decoding.rows.length) decoding.keep(call.rows);
      await decoding.advance(call.tokens);
      return stateOf(call.decoding, decoding);
    }
    case 'drop':
      decodings.delete(call.decoding);
      return null;
    case 'close':
      await predictor.close();
      await lm.close();
      return null;
  }
}

function stateOf(decoding: number, { rows, logits }: Decoding): DecodingState {
  return { decoding, rows: [...rows], logits: transferable(logits) };
}

/** onnxruntime's own buffers must not change threads, so the logits move as a copy. */
function transferable(logits: Float32Array): Float32Array<ArrayBuffer> {
  return new Float32Array(logits);
}

function send(message: AnswerMessage): void {
  const result = 'result' in message ? message.result : null;
  const logits = result instanceof Float32Array ? result : result?.logits;
  port.postMessage(message, logits === undefined ? [] : [logits.buffer as ArrayBuffer]);
}

let before: Promise<void> = Promise.resolve();
port.on('message', ({ id, call }: CallMessage) => {
  before = before.then(async () => {
    try {
      send({ id, result: await answer(call) });
    } catch (error) {
      send({ id, failure: toFailureRecord(error) });
    }
    if (call.op === 'close') port.close();
  });
});
