/** Uses the device once for workers/device.ts, and takes the runtime and what it holds of the device along when it ends. */
import { toFailureRecord } from '../src/errors.ts';
import { checkDevice } from '../src/onnx/device.ts';
import { endWithParent } from './guard.ts';

endWithParent();
const failure = await checkDevice('cuda').then(
  () => null,
  (error) => toFailureRecord(error),
);
process.send!(failure, () => process.exit(0));
