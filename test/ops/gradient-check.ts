/** Gradient cases: one op each, with values from the domain where it has a gradient. */
import { lowerings } from '../../src/autodiff/lower/registry.ts';
import { emptyGraph } from '../../src/onnx/builder.ts';
import { type Dim, symbol } from '../../src/onnx/dim.ts';
import { type AttributeInit, attributesOf, type Graph } from '../../src/onnx/ir.ts';
import type { Feed } from '../../src/onnx/session.ts';
import { tensorOf } from '../../src/onnx/types.ts';
import { opKey } from '../../src/ops/op.ts';
import { forward, type Knowledge } from './rule-gradients.ts';
import { type Subject, typedArray } from './subject.ts';

/** An input of a case. `variable` floats are differentiated; the rest is given, as a constant or fed at run time. */
export interface CaseInput {
  kind: 'variable' | 'constant' | 'fed';
  dtype: 'float32' | 'int64' | 'int32' | 'bool' | 'uint8' | 'int8';
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
  /** Outputs left out. */
  absent?: number[];
  /** Outputs that receive no gradient (left to be zeros). */
  silent?: number[];
  /** Opset in whose form the op is written. Default 23. */
  opset?: number;
  /** It rounds: results are compared with those of the fused kernel, gradients in quantize.test.ts. */
  rounds?: true;
  /** Set where onnxruntime has no float64 kernel: finite differences are then taken in float32. */
  precision?: 'float32';
}

export type ShapeKnowledge = 'static' | 'symbolic';

export function caseName(one: GradientCase): string {
  const key = opKey(one.domain ?? '', one.op);
  const shapes = one.inputs.map((input) => (input === null ? '-' : `[${input.shape}]`)).join(' ');
  const attributes = one.attributes === undefined ? '' : ` ${JSON.stringify(one.attributes)}`;
  const notes = [one.note, one.opset === undefined ? undefined : `opset ${one.opset}`].filter(
    (note) => note !== undefined,
  );
  return `${key} ${shapes}${attributes}${notes.length === 0 ? '' : ` (${notes.join(', ')})`}`;
}

/** Fused ops have no rule of their own: their primitives are differentiated, and compared with the fused kernel. */
export function isLowered(one: GradientCase): boolean {
  return lowerings.has(opKey(one.domain ?? '', one.op));
}

const inputName = (i: number) => `x${i}`;
const outputName = (i: number) => `y${i}`;

/** The one-op graph with inputs x0, x1, … and outputs y0, y1, … */
export function subjectOf(one: GradientCase): Subject {
  const graph: Graph = emptyGraph('case');
  const feeds: Record<string, Feed> = {};
  for (const [i, input] of one.inputs.entries()) {
    if (input === null) continue;
    const { dtype, shape, values } = input;
    if (input.kind === 'constant') {
      const data = Uint8Array.from(values);
      graph.initializers.set(
        inputName(i),
        dtype === 'uint8' || dtype === 'int8' ? { dtype, dims: shape, data } : tensorOf(dtype, shape, values),
      );
      continue;
    }
    graph.inputs.push({ name: inputName(i), dtype, shape: [...shape] });
    feeds[inputName(i)] = { dtype, dims: shape, data: typedArray(dtype, values) };
  }
  const outputs = Array.from({ length: one.outputs ?? 1 }, (_, i) => (one.absent?.includes(i) ? '' : outputName(i)));
  graph.nodes.push({
    op: one.op,
    domain: one.domain ?? '',
    name: 'case',
    inputs: one.inputs.map((input, i) => (input === null ? '' : inputName(i))),
    outputs,
    attributes: attributesOf(one.attributes ?? {}),
  });
  const opsets = new Map([
    ['', one.opset ?? 23],
    ['com.microsoft', 1],
  ]);
  const model = { irVersion: 10, producer: 'test', opsets, graph, functions: [] };
  const { builder, nameOf } = forward(model, knowledgeOf(one, 'static'));
  graph.outputs = outputs
    .filter((name) => name !== '')
    .map((name) => ({ name, dtype: builder.type(nameOf(name)).dtype, shape: null }));
  return {
    model,
    feeds,
    variables: one.inputs.flatMap((input, i) => (input?.kind === 'variable' ? [inputName(i)] : [])),
    silent: new Set((one.silent ?? []).map(outputName)),
  };
}

/** Symbolic: every dimension of a variable is a symbol of its own, so that none is provably equal to another. */
export function knowledgeOf(one: GradientCase, shapes: ShapeKnowledge): Knowledge {
  const bindings = new Map<string, number>();
  const dims = new Map<string, Dim[]>();
  for (const [i, input] of one.inputs.entries()) {
    if (input === null) continue;
    const known = (axis: number) =>
      shapes === 'static' || input.kind === 'fed' || input.dynamic?.includes(axis) === false;
    const shape = input.shape.map((size, axis): Dim => {
      if (known(axis)) return size;
      bindings.set(`d${i}_${axis}`, size);
      return symbol(`d${i}_${axis}`);
    });
    dims.set(inputName(i), shape);
  }
  return { bindings, shapeOf: (input) => dims.get(input)! };
}
