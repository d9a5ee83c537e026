/** Whether the runtime can use a device, found out by using it. */
import { PtunedError } from '../errors.ts';
import { createBuilder, emptyGraph } from './builder.ts';
import { createSession, type SessionOptions } from './session.ts';
import { typeOf } from './types.ts';

/** @throws PtunedError invalid_request with the runtime's reason in one line */
export async function checkDevice(device: SessionOptions['device']): Promise<void> {
  const float = typeOf('float32', [1]);
  const builder = createBuilder(emptyGraph('device'), () => [float]);
  builder.input('x', float);
  builder.output(builder.op('Neg', ['x']));
  const model = { irVersion: 10, producer: 'ptuned', opsets: new Map([['', 21]]), graph: builder.graph, functions: [] };
  try {
    const session = await createSession(model, { threads: 1, device });
    await session.run({ x: { dtype: 'float32', dims: [1], data: Float32Array.of(1) } });
    await session.close();
  } catch (error) {
    const reason = (error as Error).message.split('\n')[0]!;
    throw new PtunedError(
      'invalid_request',
      `PTUNED_DEVICE is ${device}, which cannot be used here: ${reason}. It needs an NVIDIA driver and the CUDA ` +
        'libraries of onnxruntime-node; PTUNED_DEVICE=cpu works everywhere.',
      { param: 'PTUNED_DEVICE', cause: error },
    );
  }
}
