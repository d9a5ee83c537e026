/** The inference process: serves tuned prompts and base LMs on an internal port. */
import { join } from 'node:path';
import { createArtifactStore } from '../src/artifacts/store.ts';
import { readConfig } from '../src/config.ts';
import { buildInferenceServer } from '../src/inference/server.ts';
import { createLogger } from '../src/logger.ts';
import { createModelRegistry } from '../src/models/registry.ts';
import { requireDevice } from './device.ts';
import { listen, runProcess } from './lifecycle.ts';

const config = readConfig();
const logger = createLogger('inference', config.logLevel);
await runProcess(logger, async () => {
  await requireDevice(config);
  const models = createModelRegistry(config.dataDirectory);
  const artifacts = createArtifactStore(join(config.dataDirectory, 'artifacts'));
  const server = await buildInferenceServer({ config, logger, models, artifacts });
  const address = { host: config.inferenceHost, port: config.inferencePort };
  const variables = { host: 'PTUNED_INFERENCE_HOST', port: 'PTUNED_INFERENCE_PORT' };
  const url = await listen(server, address, variables);
  return { url, close: () => server.close() };
});
