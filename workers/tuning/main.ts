/** The tuning process, with the training child to use. */
import { readConfig } from '../../src/config.ts';
import { createLogger } from '../../src/logger.ts';
import { requireDevice } from '../device.ts';
import { redisMissing, runProcess } from '../lifecycle.ts';
import { createTuningWorker, type TuningWorkerOptions } from './worker.ts';

export async function runTuningProcess(options: Pick<TuningWorkerOptions, 'childScript' | 'settings'>): Promise<void> {
  const config = readConfig();
  const logger = createLogger('tuning', config.logLevel);
  await runProcess(logger, async () => {
    if (config.redisUrl === null) throw redisMissing();
    await requireDevice(config);
    const worker = createTuningWorker({ ...options, config, logger, redisUrl: config.redisUrl });
    await worker.ready();
    return { url: null, close: () => worker.close() };
  });
}
