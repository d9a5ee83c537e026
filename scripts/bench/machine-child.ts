/**
 * What the machine can do, measured through the same runtime that trains: the rate of single-precision products, and
 * the rate at which memory is streamed.
 */
import { createBuilder, emptyGraph, type GraphBuilder } from '../../src/onnx/builder.ts';
import type { Model } from '../../src/onnx/ir.ts';
import { createSession, type Feed } from '../../src/onnx/session.ts';
import { typeOf } from '../../src/onnx/types.ts';
import { inferNode } from '../../src/ops/registry.ts';
import { answerOnce } from './child.ts';
import { minimum } from './statistics.ts';

export interface MachineRates {
  /** Best rate of products over all sizes, in floating-point operations a second, and the size [m, k, n] it was seen at. */
  sgemm: number;
  sgemmSize: number[];
  /** Bytes a second of reading two arrays and writing a third (STREAM's add), none of them fitting a cache. */
  stream: number;
}

/** [m, k, n] of products as LMs have them, and square ones. */
const sizes = [
  [256, 768, 3072],
  [256, 3072, 768],
  [512, 1024, 4096],
  [1024, 1024, 1024],
  [2048, 2048, 2048],
] as const;

const elements = 32 << 20;
const repeats = 8;

answerOnce<{ threads: number }, MachineRates>(async ({ threads }) => {
  let [sgemm, sgemmSize]: [number, number[]] = [0, []];
  for (const size of sizes) {
    const rate = await productRate(size, threads);
    if (rate > sgemm) [sgemm, sgemmSize] = [rate, [...size]];
  }
  return { sgemm, sgemmSize, stream: await streamRate(threads) };
});

/** x [m, k] times a constant [k, n], which the runtime packs as it packs an LM's weights; only one number comes back. */
async function productRate([m, k, n]: readonly [number, number, number], threads: number): Promise<number> {
  const builder = createBuilder(emptyGraph('product'), inferNode);
  builder.input('x', typeOf('float32', [m, k]));
  const weight = builder.initializer('weight', { dtype: 'float32', dims: [k, n], data: bytesOf(waves(k * n)) });
  const result = await seconds(builder, builder.op('MatMul', ['x', weight]), { x: feed([m, k]) }, threads);
  return (2 * m * k * n) / result;
}

async function streamRate(threads: number): Promise<number> {
  const builder = createBuilder(emptyGraph('stream'), inferNode);
  for (const name of ['a', 'b']) builder.input(name, typeOf('float32', [elements]));
  const result = await seconds(
    builder,
    builder.op('Add', ['a', 'b']),
    { a: feed([elements]), b: feed([elements]) },
    threads,
  );
  return (3 * 4 * elements) / result;
}

/** Shortest run of a graph whose result stays inside but for its first element. */
async function seconds(
  builder: GraphBuilder,
  result: string,
  feeds: Record<string, Feed>,
  threads: number,
): Promise<number> {
  const flat = builder.op('Reshape', [result, builder.constant('int64', [-1])]);
  const [zero, one] = [builder.constant('int64', [0]), builder.constant('int64', [1])];
  builder.output(builder.op('Slice', [flat, zero, one, zero]));
  const opsets = new Map([['', 21]]);
  const model: Model = { irVersion: 10, producer: 'ptuned', opsets, graph: builder.graph, functions: [] };
  const session = await createSession(model, { threads, device: 'cpu' });
  const times: number[] = [];
  for (let i = 0; i <= repeats; i++) {
    const start = performance.now();
    await session.run(feeds);
    times.push((performance.now() - start) / 1000);
  }
  await session.close();
  return minimum(times.slice(1));
}

function feed(dims: number[]): Feed {
  return { dtype: 'float32', dims, data: waves(dims.reduce((product, dim) => product * dim, 1)) };
}

function waves(length: number): Float32Array {
  const values = new Float32Array(length);
  for (let i = 0; i < length; i++) values[i] = ((i * 7919) % 1009) / 1009 - 0.5;
  return values;
}

function bytesOf({ buffer, byteOffset, byteLength }: Float32Array): Uint8Array {
  return new Uint8Array(buffer, byteOffset, byteLength);
}
