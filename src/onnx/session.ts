/** The only importer of onnxruntime-node. `run` is a blocking native call behind a promise: never use it in the API process. */
import './telemetry.ts';
import ort from 'onnxruntime-node';
import { PtunedError } from '../errors.ts';
import type { DType } from './dtype.ts';
import { encodeModel } from './encode.ts';
import { followLinks } from './hub-links.ts';
import type { Model } from './ir.ts';
import { mappedBytes, memoryLimit, prepackPays } from './prepack.ts';

export const onnxruntimeVersion: string = ort.env.versions.node ?? ort.env.versions.common;

export interface SessionOptions {
  threads: number;
  device: 'cpu' | 'cuda';
  /** Folder that external data locations are relative to. */
  directory?: string;
  /** Packing weights makes products faster and copies them. Default: as {@link prepackPays} finds. */
  prepack?: boolean;
  /** The runtime's own rewriting of the graph makes it faster, and takes two thirds of opening it. Default true. */
  optimize?: boolean;
  /** Prefix of the file that onnxruntime writes its profile to, times of every node included, when the session closes. */
  profile?: string;
}

export type TypedArray =
  | Float32Array
  | Float64Array
  | BigInt64Array
  | BigUint64Array
  | Int32Array
  | Uint32Array
  | Int16Array
  | Uint16Array
  | Int8Array
  | Uint8Array;

export interface Feed {
  dtype: DType;
  dims: readonly number[];
  data: TypedArray;
}

export interface Session {
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  /** Runs the graph; `fetches` default to all outputs. Data of outputs are copies owned by the caller. */
  run(feeds: Record<string, Feed>, fetches?: readonly string[]): Promise<Record<string, Feed>>;
  close(): Promise<void>;
}

/** Fusions that make training graphs slower on CPU; SkipLayerNormalization was measured 6.9 times slower than its parts. */
const slowFusions = 'SkipLayerNormFusion';

/**
 * Left to itself the runtime computes DequantizeLinear and MatMul as one product with inputs rounded to 8 bits, but only
 * where nothing else reads the weight: in predictions and not in training.
 */
const fullPrecision = { qdq_matmulnbits_accuracy_level: '1' };

/** @throws PtunedError out_of_memory, import_refused when onnxruntime does not accept the graph */
export async function createSession(model: Model, options: SessionOptions): Promise<Session> {
  const { graph, directory } =
    options.directory === undefined ? { graph: model.graph } : followLinks(model.graph, options.directory);
  const bytes = encodeModel({ ...model, graph });
  const prepack = options.prepack ?? prepackPays(mappedBytes(model.graph), memoryLimit());
  const extra: Record<string, unknown> = {
    optimization: { disable_specified_optimizers: slowFusions },
    session: {
      ...fullPrecision,
      ...(directory === undefined ? {} : { model_external_initializers_file_folder_path: directory }),
      ...(prepack ? {} : { disable_prepacking: '1' }),
    },
  };
  const session = await guarded(() =>
    ort.InferenceSession.create(bytes, {
      executionProviders: options.device === 'cuda' ? ['cuda', 'cpu'] : ['cpu'],
      intraOpNumThreads: options.threads,
      interOpNumThreads: 1,
      graphOptimizationLevel: options.optimize === false ? 'disabled' : 'all',
      enableMemPattern: false,
      logSeverityLevel: 3,
      ...(options.profile === undefined ? {} : { enableProfiling: true, profileFilePrefix: options.profile }),
      extra,
    }),
  );
  return {
    inputs: session.inputNames,
    outputs: session.outputNames,
    async run(feeds, fetches) {
      const tensors: Record<string, ort.Tensor> = {};
      for (const [name, feed] of Object.entries(feeds)) tensors[name] = toTensor(feed);
      const results = await guarded(() =>
        fetches === undefined ? session.run(tensors) : session.run(tensors, [...fetches]),
      );
      return Object.fromEntries(Object.entries(results).map(([name, tensor]) => [name, fromTensor(tensor)]));
    },
    async close() {
      if (options.profile !== undefined) session.endProfiling();
      await session.release();
    },
  };
}

function toTensor(feed: Feed): ort.Tensor {
  const data = feed.dtype === 'bool' && feed.data instanceof Uint8Array ? feed.data : feed.data;
  return new ort.Tensor(feed.dtype as ort.Tensor.Type, data as ort.Tensor.DataType, feed.dims);
}

function fromTensor(tensor: ort.Tensor): Feed {
  return { dtype: tensor.type as DType, dims: tensor.dims, data: tensor.data as TypedArray };
}

async function guarded<T>(run: () => Promise<T>): Promise<T> {
  try {
    return await run();
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    if (/Failed to allocate memory|bad_alloc|out of memory/i.test(message)) {
      throw new PtunedError('out_of_memory', `onnxruntime ran out of memory: ${message}`, { cause: error });
    }
    throw new PtunedError('internal', `onnxruntime: ${message}`, { cause: error });
  }
}
