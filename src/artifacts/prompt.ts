/** The folded prompt table as a file: one float32 tensor [pseudo tokens, embedding width]. */
import { PtunedError } from '../errors.ts';
import { decodeSafetensors, encodeSafetensors } from './safetensors.ts';

export const promptFile = 'prompt.safetensors';
export const encoderFile = 'encoder.safetensors';
/** Words of a task's allowed_words_file, one a line; a prompt must be served without that file. */
export const wordsFile = 'allowed-words.txt';
/** PEFT's name for the same tensor. */
const tensorName = 'prompt_embeddings';

/** Bytes of prompt.safetensors for a table [rows, width]. */
export function encodePrompt(table: Float32Array, rows: number, width: number): Uint8Array {
  return encodeSafetensors(new Map([[tensorName, { dtype: 'F32', shape: [rows, width], data: table }]]));
}

/** The table of prompt.safetensors, which must be [rows, width] and finite. Throws damaged_artifact. */
export function decodePrompt(bytes: Uint8Array, rows: number, width: number): Float32Array {
  const tensors = decodeSafetensors(bytes, promptFile);
  const tensor = tensors.get(tensorName);
  if (tensors.size !== 1 || tensor === undefined || !(tensor.data instanceof Float32Array)) {
    throw damaged(`it holds ${[...tensors.keys()].join(', ') || 'nothing'}; expected: ${tensorName} in float32`);
  }
  if (tensor.shape.length !== 2 || tensor.shape[0] !== rows || tensor.shape[1] !== width) {
    throw damaged(`the table is [${tensor.shape}]; its manifest says [${rows},${width}]`);
  }
  if (!tensor.data.every(Number.isFinite)) throw damaged('the table holds a number that is not finite');
  return tensor.data;
}

function damaged(what: string): PtunedError {
  return new PtunedError('damaged_artifact', `${promptFile} is damaged: ${what}.`);
}
