/** Everything the routes need, made once by the process entry point. */
import type { Logger } from 'pino';
import type { ArtifactStore } from '../artifacts/store.ts';
import type { Config } from '../config.ts';
import type { FileStore } from '../data/files.ts';
import type { Jobs } from '../jobs/jobs.ts';
import type { JobValidator } from '../jobs/validate.ts';
import type { ImportOptions, ModelManifest } from '../models/manifest.ts';
import type { ModelRegistry } from '../models/registry.ts';
import type { InferenceClient } from './inference-client.ts';

export interface ApiServices {
  config: Config;
  logger: Logger;
  jobs: Jobs;
  files: FileStore;
  models: ModelRegistry;
  artifacts: ArtifactStore;
  inference: InferenceClient;
  validateJob: JobValidator;
  /** Imports an LM in a limited child process. */
  preflightModel(directory: string, options: ImportOptions): Promise<ModelManifest>;
  /** Folder of package.json: relative paths of POST /models begin here. */
  projectDirectory: string;
  /** Folder of the LMs that ship with the project, always accepted by POST /models. */
  shippedModels: string;
  /** Largest file that may be uploaded. Default 512 MiB. */
  maxFileBytes?: number;
}
