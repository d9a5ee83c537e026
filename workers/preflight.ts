/** Imports one LM, or only looks at it, for src/models/preflight.ts, which limits and may kill this process. */
import { toFailureRecord } from '../src/errors.ts';
import { importModel } from '../src/lm/import.ts';
import { inspectModel } from '../src/lm/report.ts';
import type { PreflightMessage, PreflightRequest } from '../src/models/preflight.ts';
import { endWithParent } from './guard.ts';

endWithParent();
process.once('message', async ({ directory, options, inspect }: PreflightRequest) => {
  const send = (message: PreflightMessage) => process.send!(message, () => process.exit(0));
  try {
    if (inspect !== undefined) send({ inspection: await inspectModel(directory, inspect, options) });
    else send({ manifest: await importModel(directory, options) });
  } catch (error) {
    send({ failure: toFailureRecord(error) });
  }
});
