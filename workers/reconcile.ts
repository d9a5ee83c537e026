/** Every process that knows the disk brings Redis back to it, at its start and regularly. */
import type { Reconciled } from '../src/jobs/reconcile.ts';
import type { Logger } from '../src/logger.ts';
import { repeat } from './repeat.ts';

const milliseconds = 20_000;

/** Returns how to stop it. */
export function reconcileRegularly(reconcile: () => Promise<Reconciled>, logger: Logger): () => void {
  return repeat(milliseconds, async () => {
    try {
      const done = await reconcile();
      if (done.adopted + done.requeued + done.removed > 0) logger.warn(done, 'jobs reconciled');
    } catch (error) {
      logger.warn({ err: error }, 'jobs were not reconciled');
    }
  });
}
