/** ONNX's backend node tests: folders with model.onnx and test_data_set_0/{input,output}_*.pb. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fromBinary } from '@bufbuild/protobuf';
import { inlineFunctions } from '../../src/autodiff/inline.ts';
import { lowerings } from '../../src/autodiff/lower/registry.ts';
import { widenHalves } from '../../src/autodiff/widen.ts';
import { decodeModel, decodeTensorFile } from '../../src/onnx/decode.ts';
import { type Dim, symbol } from '../../src/onnx/dim.ts';
import { type DType, isFloat } from '../../src/onnx/dtype.ts';
import { isExternal, type Model, type Tensor, type ValueInfo } from '../../src/onnx/ir.ts';
import { ModelProtoSchema } from '../../src/onnx/onnx_pb.ts';
import type { Feed, TypedArray } from '../../src/onnx/session.ts';
import { numbersOf, tensorOf } from '../../src/onnx/types.ts';
import { opKey } from '../../src/ops/op.ts';
import { ops } from '../../src/ops/registry.ts';
import type { Knowledge } from '../ops/rule-gradients.ts';
import type { ConformanceCase } from './compare-case.ts';

/** Opset that onnxruntime accepts; later revisions of an op differ in element types alone. */
const newestOpset = 26;

/** Of the expected outputs, which reference implementations computed in float32 or in half precision. */
const outputTolerances = { single: 1e-4, half: 1e-2 };

/** Ops whose rule rounds nothing, or takes a scale as given: finite differences tell nothing of them. */
const straightThrough = new Set([...['DynamicQuantizeLinear', 'QuantizeLinear', 'DequantizeLinear', 'MatMulInteger']]);

/** Ops that the runtime computes in float32 whatever they are given; Attention's function for float64 is of an older definition. */
const singlePrecision = new Set(['Celu', 'GroupNormalization', 'Attention']);

export interface NodeTests {
  cases: ConformanceCase[];
  /** Why others were left out, with their number. */
  skipped: Map<string, number>;
}

export function readNodeTests(directory: string): NodeTests {
  const cases: ConformanceCase[] = [];
  const skipped = new Map<string, number>();
  for (const name of readdirSync(directory).sort()) {
    const folder = join(directory, name);
    if (!existsSync(join(folder, 'model.onnx'))) continue;
    const one = readNodeTest(folder, name);
    if (typeof one === 'string') skipped.set(one, (skipped.get(one) ?? 0) + 1);
    else cases.push(one);
  }
  return { cases, skipped };
}

/** The case, or why there is none. */
function readNodeTest(folder: string, name: string): ConformanceCase | string {
  const bytes = readFileSync(join(folder, 'model.onnx'));
  if (!takesTensors(bytes)) return 'sequences, optionals or strings';
  const read = tryRead(() => decodeModel(bytes, name));
  if (read === null) return 'element types onnxruntime-node lacks';
  const opset = read.opsets.get('') ?? newestOpset;
  if (opset < 11) return 'opset below 11';
  const opsets = new Map(read.opsets).set('', Math.min(opset, newestOpset));
  const inlined = inlineFunctions({ ...read, irVersion: 10, opsets });
  const unknown = inlined.graph.nodes.find(({ domain, op }) => !isKnown(opKey(domain, op)));
  if (unknown !== undefined) {
    const key = opKey(unknown.domain, unknown.op);
    return ops.has(key) ? `refused by its record: ${key}` : `no record: ${key}`;
  }
  const values = tryRead(() => ({
    inputs: readValues(folder, 'input', read.graph.inputs),
    outputs: readValues(folder, 'output', read.graph.outputs),
  }));
  if (values === null) return 'element types onnxruntime-node lacks';
  if (inlined.graph.nodes.some(({ op, inputs }) => op === 'Dropout' && inputs[2])) return 'Dropout that trains';
  const half = [...read.graph.inputs, ...read.graph.outputs].some(({ dtype }) => /^b?float16$/.test(dtype));
  const model = widenHalves(withConstants(inlined, values.inputs));
  const feeds = Object.fromEntries(model.graph.inputs.map((input) => [input.name, values.inputs[input.name]!]));
  const variables = variablesOf(model);
  const silent = model.graph.outputs
    .map((output) => output.name)
    .filter((output) => hasInfinity(values.outputs[output]!));
  return {
    op: rowOf(name, model),
    name,
    subject: { model, feeds, variables, silent: new Set(silent) },
    knowledge: [
      [knowledge(feeds, () => false)],
      [
        knowledge(feeds, (input) => variables.includes(input)),
        knowledge(feeds, (input, axis, rank) => variables.includes(input) && (axis === 0 || axis === rank - 2)),
        // What depends on sizes, as exports have them: of the activations the batch alone is open.
        knowledge(feeds, (input, axis) => input === variables[0] && axis === 0),
      ],
    ],
    ...(model.graph.nodes.some(({ op }) => singlePrecision.has(op)) ? { precision: 'float32' as const } : {}),
    expected: { outputs: values.outputs, tolerance: half ? outputTolerances.half : outputTolerances.single },
  };
}

/** Axes, shapes and sizes, which the tests feed, are constants in the files that exporters write. */
function withConstants(model: Model, inputs: Record<string, Feed>): Model {
  const initializers = new Map(model.graph.initializers);
  const fed = model.graph.inputs.filter(({ name, dtype }) => {
    const { dims, data } = inputs[name]!;
    if (dtype !== 'int64' || dims.length > 1) return true;
    initializers.set(name, tensorOf('int64', [...dims], Array.from(data as BigInt64Array, Number)));
    return false;
  });
  return { ...model, graph: { ...model.graph, inputs: fed, initializers } };
}

/** Float inputs that a gradient is asked of. */
function variablesOf({ graph }: Model): string[] {
  const [only] = graph.nodes;
  const { vjp } = (graph.nodes.length === 1 && only && ops.get(opKey(only.domain, only.op))) || {};
  const none = typeof vjp === 'object' && 'none' in vjp;
  if (none || graph.nodes.some((node) => straightThrough.has(node.op))) return [];
  return graph.inputs.filter(({ dtype }) => isFloat(dtype)).map((input) => input.name);
}

/** Differences of infinities are no numbers. */
function hasInfinity({ dtype, data }: Feed): boolean {
  return isFloat(dtype) && (data as Float32Array).some((value) => !Number.isFinite(value));
}

function takesTensors(bytes: Uint8Array): boolean {
  const { graph } = fromBinary(ModelProtoSchema, bytes);
  return [...(graph?.input ?? []), ...(graph?.output ?? [])].every(({ type }) => {
    const value = type?.value;
    return value?.case === 'tensorType' && value.value.elemType !== 8;
  });
}

function tryRead<T>(read: () => T): T | null {
  try {
    return read();
  } catch {
    return null;
  }
}

function isKnown(key: string): boolean {
  const vjp = ops.get(key)?.vjp;
  const refused = typeof vjp === 'object' && 'missing' in vjp;
  return (vjp !== undefined && !refused) || lowerings.has(key) || key === 'If';
}

/** The op, or the op whose function body the graph is. */
function rowOf(name: string, { graph }: Model): string {
  const [only] = graph.nodes;
  if (graph.nodes.length === 1 && only !== undefined) return opKey(only.domain, only.op);
  return name.includes('_expanded') ? 'function bodies' : 'several ops';
}

function readValues(folder: string, kind: 'input' | 'output', declared: readonly ValueInfo[]): Record<string, Feed> {
  return Object.fromEntries(
    declared.map(({ name }, i): [string, Feed] => {
      const path = join(folder, 'test_data_set_0', `${kind}_${i}.pb`);
      return [name, feedOf(decodeTensorFile(readFileSync(path), path).tensor)];
    }),
  );
}

const views: Partial<Record<DType, new (bytes: ArrayBuffer) => TypedArray>> = {
  float32: Float32Array,
  float64: Float64Array,
  int64: BigInt64Array,
  uint64: BigUint64Array,
  int32: Int32Array,
  uint32: Uint32Array,
  int16: Int16Array,
  uint16: Uint16Array,
  int8: Int8Array,
  uint8: Uint8Array,
  bool: Uint8Array,
};

/** Half precision as float32. */
function feedOf(tensor: Tensor): Feed {
  const { dtype, dims, data } = tensor;
  if (isExternal(data)) throw new Error('a test has its values in the file');
  if (/^b?float16$/.test(dtype)) return { dtype: 'float32', dims, data: Float32Array.from(numbersOf(tensor)!) };
  const view = views[dtype];
  if (view === undefined) throw new Error(`${dtype} cannot be fed`);
  return { dtype, dims, data: new view(new Uint8Array(data).buffer) };
}

/** Sizes as they are, or a symbol for every axis of which `symbolic` says so. */
function knowledge(
  feeds: Record<string, Feed>,
  symbolic: (input: string, axis: number, rank: number) => boolean,
): Knowledge {
  const bindings = new Map<string, number>();
  return {
    bindings,
    shapeOf(input) {
      const { dims } = feeds[input]!;
      return dims.map((size, axis): Dim => {
        if (!symbolic(input, axis, dims.length)) return size;
        const name = `${input}_${axis}`;
        bindings.set(name, size);
        return symbol(name);
      });
    },
  };
}
