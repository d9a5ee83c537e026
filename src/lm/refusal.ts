/** Failures of an import in the user's terms: whatever a model file brings about is a property of that file. */
import { PtunedError } from '../errors.ts';

/** Failures of the runtime, which alone are not the file's fault elsewhere. */
const ofRuntime = new Set(['internal', 'out_of_memory']);

/** An error met while a model is read or tried, as one that says so. */
export function asRefusal(error: unknown): PtunedError {
  const message = error instanceof Error ? error.message : String(error);
  if (error instanceof PtunedError && !ofRuntime.has(error.code)) return error;
  if (error instanceof PtunedError) {
    return new PtunedError('import_refused', `The LM does not run: ${message}`, { cause: error });
  }
  return new PtunedError('damaged_model', `The graph cannot be made sense of: ${message}.`, { cause: error });
}
