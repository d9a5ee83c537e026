/** From a job's spec to what its training child needs: files and LM, where they are on this machine. */
import { access } from 'node:fs/promises';
import { join } from 'node:path';
import type { Config } from '../../src/config.ts';
import { createFileStore } from '../../src/data/files.ts';
import { PtunedError } from '../../src/errors.ts';
import type { JobSpec } from '../../src/jobs/contract.ts';
import type { ModelManifest } from '../../src/models/manifest.ts';
import { createModelRegistry } from '../../src/models/registry.ts';
import type { TuningJob } from '../../src/tuning/types.ts';

export type InputConfig = Pick<Config, 'dataDirectory' | 'threads' | 'device' | 'checkpointSeconds' | 'contextBytes'>;

/** Throws `model_not_found`, `model_mismatch` or `file_not_found` for what went away since the job was accepted. */
export async function resolveInputs(config: InputConfig, spec: JobSpec, attempt: number): Promise<TuningJob> {
  const { dataDirectory, threads, device, checkpointSeconds, contextBytes } = config;
  const store = createFileStore(dataDirectory);
  const find = async (id: string | null | undefined): Promise<string | null> => {
    if (id == null) return null;
    const path = store.path(id);
    await access(path).catch(() => {
      throw new PtunedError('file_not_found', `File "${id}" was deleted before the job could use it.`);
    });
    return path;
  };
  const { task } = spec.method;
  return {
    spec,
    attempt,
    model: await findModel(dataDirectory, spec),
    files: {
      train: (await find(spec.trainingFile))!,
      dev: await find(spec.validationFile),
      test: await find(spec.testFile),
      allowedWords: await find(task.type === 'cloze' ? task.allowed_words_file : null),
    },
    directory: join(dataDirectory, 'jobs', spec.id),
    artifacts: join(dataDirectory, 'artifacts'),
    threads,
    device,
    contextBytes,
    checkpointSeconds,
  };
}

async function findModel(dataDirectory: string, spec: JobSpec): Promise<ModelManifest> {
  const model = await createModelRegistry(dataDirectory).get(spec.model);
  if (model === null) {
    throw new PtunedError('model_not_found', `Model "${spec.model}" was removed before the job could use it.`);
  }
  if (model.hash !== spec.modelHash) {
    throw new PtunedError('model_mismatch', `Model "${spec.model}" is not the one the job was accepted for any more.`);
  }
  return model;
}
