/** One op's gradient against finite differences. */

import { checkGraph } from '../../src/autodiff/check.ts';
import { appendGradient } from '../../src/autodiff/gradient.ts';
import { lowerings, lowerNode } from '../../src/autodiff/lower/registry.ts';
import { createBuilder, emptyGraph, type GraphBuilder } from '../../src/onnx/builder.ts';
import { type Dim, dimKey, evaluateDim, symbol } from '../../src/onnx/dim.ts';
import type { DType } from '../../src/onnx/dtype.ts';
import { type AttributeInit, attributesOf, elementCount, type Model } from '../../src/onnx/ir.ts';
import { createSession, type Feed, type TypedArray } from '../../src/onnx/session.ts';
import { tensorOf, typeOf } from '../../src/onnx/types.ts';
import { opKey } from '../../src/ops/op.ts';
import { inferNode } from '../../src/ops/registry.ts';

/** An input of a case. `variable` floats are differentiated; the rest is given, as a constant or fed at run time. */
export interface CaseInput {
  kind: 'variable' | 'constant' | 'fed';
  dtype: 'float32' | 'int64' | 'int32' | 'bool' | 'uint8';
  shape: number[];
  values: number[];
  /** Axes that are symbolic where shapes are symbolic. Default all. */
  dynamic?: number[];
}

export interface GradientCase {
  op: string;
  domain?: string;
  /** What this case adds to the others of its op. */
  note?: string;
  attributes?: Record<string, AttributeInit>;
  /** Null: an optional input left out. */
  inputs: (CaseInput | null)[];
  /** Number of outputs. Default 1. */
  outputs?: number;
  /** Outputs that are int32. */
  integers?: number[];
  /** Outputs that receive no gradient (left to be zeros). */
  silent?: number[];
  /** Default 23. */
  opset?: number;
  /** Set where onnxruntime has no float64 kernel: finite differences are then taken in float32. */
  precision?: 'float32';
}

export type ShapeKnowledge = 'static' | 'symbolic';

export function caseName(one: GradientCase): string {
  const key = one.domain === undefined ? one.op : `${one.domain}.${one.op}`;
  const shapes = one.inputs.map((input) => (input === null ? '-' : `[${input.shape}]`)).join(' ');
  const attributes = one.attributes === undefined ? '' : ` ${JSON.stringify(one.attributes)}`;
  return `${key} ${shapes}${attributes}${one.note === undefined ? '' : ` (${one.note})`}`;
}

/** Fused ops have no rule of their own: their primitives are differentiated, and compared with the fused kernel. */
export function isLowered(one: GradientCase): boolean {
  return lowerings.has(opKey(one.domain ?? '', one.op));
}

const inputName = (i: number) => `x${i}`;
const seedName = (i: number) => `seed${i}`;

interface Forward {
  builder: GraphBuilder;
  outputs: string[];
  bindings: Map<string, number>;
}

/** The one-op graph with inputs x0, x1, … Symbolic: every dimension of a variable is a symbol of its own. */
function buildForward(
  one: GradientCase,
  float: 'float32' | 'float64',
  knowledge: ShapeKnowledge,
  lower: boolean,
): Forward {
  const builder = createBuilder(emptyGraph('case'), inferNode);
  const bindings = new Map<string, number>();
  const names = one.inputs.map((input, i) => {
    if (input === null) return '';
    const dtype = input.dtype === 'float32' ? float : input.dtype;
    if (input.kind === 'constant') {
      const data = Uint8Array.from(input.values);
      const bytes = { dtype, dims: input.shape, data };
      const tensor = dtype === 'uint8' ? bytes : tensorOf(dtype, input.shape, input.values);
      builder.graph.initializers.set(inputName(i), tensor);
      builder.types.set(inputName(i), typeOf(dtype, input.shape, input.dtype === 'float32' ? null : input.values));
      if (input.shape.length === 0) builder.types.set(inputName(i), typeOf(dtype, [], input.values));
      return inputName(i);
    }
    const dims = input.shape.map((size, axis): Dim => {
      if (knowledge === 'static' || input.dynamic?.includes(axis) === false) return size;
      bindings.set(`d${i}_${axis}`, size);
      return symbol(`d${i}_${axis}`);
    });
    return builder.input(inputName(i), typeOf(dtype, input.kind === 'fed' ? [...input.shape] : dims));
  });
  const outputs = Array.from({ length: one.outputs ?? 1 }, (_, i) => `y${i}`);
  const attributes = attributesOf(one.attributes ?? {});
  const node = { op: one.op, domain: one.domain ?? '', name: 'case', inputs: names, outputs, attributes };
  if (lower) return { builder, outputs: lowerNode(builder, node), bindings };
  builder.append(node);
  for (const i of one.integers ?? []) builder.types.set(outputs[i]!, typeOf('int32', null));
  return { builder, outputs, bindings };
}

function modelOf(builder: GraphBuilder, outputs: readonly string[], opset = 23): Model {
  for (const name of outputs) builder.graph.outputs.push({ name, dtype: builder.type(name).dtype, shape: null });
  const opsets = new Map([
    ['', opset],
    ['com.microsoft', 1],
  ]);
  checkGraph(builder.graph, 'building the case');
  return { irVersion: 10, producer: 'test', opsets, graph: builder.graph, functions: [] };
}

const sessionOptions = { threads: 1, device: 'cpu' as const };

function typedArray(dtype: DType, values: ArrayLike<number>): TypedArray {
  if (dtype === 'float32') return Float32Array.from(values);
  if (dtype === 'float64') return Float64Array.from(values);
  if (dtype === 'int64') return BigInt64Array.from(Array.from(values), BigInt);
  return dtype === 'int32' ? Int32Array.from(values) : Uint8Array.from(values);
}

function feedsOf(one: GradientCase, builder: GraphBuilder): Record<string, Feed> {
  const feeds: Record<string, Feed> = {};
  for (const [i, input] of one.inputs.entries()) {
    if (input === null || input.kind === 'constant') continue;
    const { dtype } = builder.type(inputName(i));
    feeds[inputName(i)] = { dtype, dims: input.shape, data: typedArray(dtype, input.values) };
  }
  return feeds;
}

/** Fixed, irregular weights of the linear functional Σ seed · y. */
function seedValues(count: number, output: number): Float64Array {
  return Float64Array.from({ length: count }, (_, i) => Math.fround(Math.sin(1.7 * i + output + 0.4) + 0.3));
}

export interface Differences {
  /** Per input, null where it is not a variable. */
  gradients: (Float64Array | null)[];
  outputs: Feed[];
}

/** d(Σ seed · y)/dx by central differences: two points in float64, four (fifth order) in float32. */
export async function finiteDifferences(one: GradientCase): Promise<Differences> {
  const float = one.precision ?? 'float64';
  const { builder, outputs } = buildForward(one, float, 'static', false);
  const session = await createSession(modelOf(builder, outputs, one.opset), sessionOptions);
  const feeds = feedsOf(one, builder);
  const silent = new Set(one.silent ?? []);
  const evaluate = async (): Promise<number> => {
    const results = await session.run(feeds);
    let sum = 0;
    for (const [i, name] of outputs.entries()) {
      const { data, dtype } = results[name]!;
      if (silent.has(i) || (dtype !== 'float32' && dtype !== 'float64')) continue;
      const seed = seedValues(data.length, i);
      for (let k = 0; k < data.length; k++) sum += seed[k]! * Number(data[k]);
    }
    return sum;
  };
  const [step, stencil] = float === 'float64' ? [1e-5, [[1, 0.5]]] : [2 ** -5, [[1, 2 / 3], [2, -1 / 12]]]; // biome-ignore format: one line
  try {
    const first = await session.run(feeds);
    const gradients: (Float64Array | null)[] = [];
    for (const [i, input] of one.inputs.entries()) {
      if (input?.kind !== 'variable') {
        gradients.push(null);
        continue;
      }
      const data = feeds[inputName(i)]!.data as Float64Array;
      const gradient = new Float64Array(data.length);
      for (let k = 0; k < data.length; k++) {
        const at = data[k]!;
        for (const [distance, weight] of stencil as [number, number][]) {
          data[k] = at + distance * step;
          const above = await evaluate();
          data[k] = at - distance * step;
          gradient[k]! += (weight * (above - (await evaluate()))) / step;
        }
        data[k] = at;
      }
      gradients.push(gradient);
    }
    return { gradients, outputs: outputs.map((name) => first[name]!) };
  } finally {
    await session.close();
  }
}

/**
 * The rule's gradients, run in float32. Every value on the way is compared with what was inferred of it.
 * @returns gradients per input, and disagreements between inference and run
 */
export async function ruleGradients(
  one: GradientCase,
  knowledge: ShapeKnowledge,
  outputDims: readonly (readonly number[])[],
  seedData: readonly Float32Array[] = outputDims.map((dims, i) => Float32Array.from(seedValues(elementCount(dims), i))),
): Promise<{ gradients: (Float32Array | null)[]; outputs: Feed[]; disagreements: string[] }> {
  const { builder, outputs, bindings } = buildForward(one, 'float32', knowledge, isLowered(one));
  const seeds = new Map<string, string>();
  for (const [i, name] of outputs.entries()) {
    const type = builder.type(name);
    if (type.dtype !== 'float32' || one.silent?.includes(i)) continue;
    seeds.set(name, builder.input(seedName(i), typeOf('float32', type.shape)));
  }
  const variables = one.inputs.flatMap((input, i) => (input?.kind === 'variable' ? [inputName(i)] : []));
  const gradients = appendGradient(builder, { seeds, wrt: variables });
  const made = builder.graph.nodes.flatMap((node) => node.outputs.filter((name) => name !== ''));
  const model = modelOf(builder, made, one.opset);
  const session = await createSession(model, sessionOptions);
  try {
    const feeds = feedsOf(one, builder);
    for (const [i] of outputs.entries()) {
      const dims = outputDims[i]!;
      if (session.inputs.includes(seedName(i))) feeds[seedName(i)] = { dtype: 'float32', dims, data: seedData[i]! };
    }
    const results: Record<string, Feed> = { ...feeds, ...(await session.run(feeds)) };
    return {
      gradients: one.inputs.map((input, i) =>
        input?.kind === 'variable' ? (results[gradients.get(inputName(i))!]!.data as Float32Array) : null,
      ),
      outputs: outputs.map((name) => results[name]!),
      disagreements: made.flatMap((name) => disagreements(builder, name, results[name]!, bindings)),
    };
  } finally {
    await session.close();
  }
}

function disagreements(
  builder: GraphBuilder,
  name: string,
  found: Feed,
  bindings: ReadonlyMap<string, number>,
): string[] {
  const { dtype, shape, value } = builder.type(name);
  const list: string[] = [];
  if (dtype !== found.dtype) list.push(`${name}: inferred ${dtype}, found ${found.dtype}`);
  const dims = shape?.map((dim) => evaluateDim(dim, bindings)) ?? null;
  const same =
    dims === null || (dims.length === found.dims.length && dims.every((d, i) => d === null || d === found.dims[i]));
  if (!same) list.push(`${name}: inferred [${shape?.map(dimKey)}], found [${found.dims}]`);
  const elements = value?.map((one) => evaluateDim(one, bindings)) ?? [];
  if (elements.some((one, i) => one !== null && Math.abs(one - Number(found.data[i])) > 1e-6 * Math.abs(one)))
    list.push(`${name}: inferred the elements ${elements}, found ${found.data}`);
  return list;
}
