/** Imports one LM for src/models/preflight.ts, which limits and may kill this process. */
import { toFailureRecord } from '../src/errors.ts';
import { importModel } from '../src/lm/import.ts';
import type { PreflightMessage } from '../src/models/preflight.ts';
import { endWithParent } from './guard.ts';

endWithParent();
process.once('message', async ({ directory, id }: { directory: string; id?: string }) => {
  const send = (message: PreflightMessage) => process.send!(message, () => process.exit(0));
  try {
    send({ manifest: await importModel(directory, id === undefined ? {} : { id }) });
  } catch (error) {
    send({ failure: toFailureRecord(error) });
  }
});
