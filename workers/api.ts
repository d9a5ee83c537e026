/** The API process: the only one that users reach. */
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { createApp } from '../src/api/app.ts';
import { createInferenceClient } from '../src/api/inference-client.ts';
import { projectFolder } from '../src/api/project.ts';
import { createArtifactStore } from '../src/artifacts/store.ts';
import { readConfig } from '../src/config.ts';
import { createFileStore } from '../src/data/files.ts';
import { createJobs } from '../src/jobs/jobs.ts';
import { createThreadedValidator } from '../src/jobs/threaded-validator.ts';
import { createLogger } from '../src/logger.ts';
import { preflightModel } from '../src/models/preflight.ts';
import { createModelRegistry } from '../src/models/registry.ts';
import { listen, redisMissing, runProcess } from './lifecycle.ts';
import { reconcileRegularly } from './reconcile.ts';

const config = readConfig();
const logger = createLogger('api', config.logLevel);
await runProcess(logger, async () => {
  const { dataDirectory, redisUrl } = config;
  if (redisUrl === null) throw redisMissing();
  await mkdir(dataDirectory, { recursive: true });
  const jobs = createJobs({ redisUrl, dataDirectory, logger });
  const files = createFileStore(dataDirectory);
  const models = createModelRegistry(dataDirectory);
  const validator = createThreadedValidator(dataDirectory);
  const inference = createInferenceClient({ url: config.inferenceUrl });
  const app = await createApp({
    config,
    logger,
    jobs,
    files,
    models,
    artifacts: createArtifactStore(join(dataDirectory, 'artifacts')),
    inference,
    validateJob: validator.validate,
    preflightModel,
    projectDirectory: projectFolder(),
    shippedModels: join(projectFolder(), 'demo', 'models'),
  });
  const url = await listen(app, { host: config.host, port: config.port }, { host: 'PTUNED_HOST', port: 'PTUNED_PORT' });
  const stopReconciling = reconcileRegularly(() => jobs.reconcile(), logger);
  return {
    url,
    async close() {
      stopReconciling();
      await app.close();
      await validator.close();
      inference.close();
      await jobs.close();
    },
  };
});
