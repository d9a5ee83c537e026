/** Validates jobs away from the API's thread: reading a million rows must hold up nobody's request. */
import { parentPort, workerData } from 'node:worker_threads';
import { createFileStore } from '../data/files.ts';
import { type FailureRecord, toFailureRecord } from '../errors.ts';
import { createModelRegistry } from '../models/registry.ts';
import { loadTokenizer } from '../tokenizer/load.ts';
import { createJobValidator, type JobRequest, type ValidJob } from './validate.ts';

export interface ValidationCall {
  id: number;
  request: JobRequest;
  owner: string;
}

export type ValidationAnswer = { id: number } & ({ job: ValidJob } | { failure: FailureRecord });

const { dataDirectory } = workerData as { dataDirectory: string };
const validate = createJobValidator({
  models: createModelRegistry(dataDirectory),
  files: createFileStore(dataDirectory),
  loadTokenizer,
});

// Files are read in pieces, so several validations take turns and a short one does not wait for a long one.
parentPort!.on('message', async ({ id, request, owner }: ValidationCall) => {
  const answer = (rest: { job: ValidJob } | { failure: FailureRecord }) =>
    parentPort!.postMessage({ id, ...rest } satisfies ValidationAnswer);
  try {
    answer({ job: await validate(request, owner) });
  } catch (error) {
    answer({ failure: toFailureRecord(error) });
  }
});
