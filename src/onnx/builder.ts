/** Appends nodes to a graph, infers what they yield as it goes, and shares equal constants. */
import { PtunedError } from '../errors.ts';
import { type Dim, shapeText } from './dim.ts';
import { type AttributeInit, attributesOf, describeNode, type Graph, type Node, type Tensor } from './ir.ts';
import { type TensorType, tensorOf, typeOf, typeOfTensor } from './types.ts';

/** Types of a node's outputs from those of its inputs (null: input left out). Injected: what ops mean is known in src/ops. */
export type InferNode = (node: Node, inputs: (TensorType | null)[]) => TensorType[];

export interface EmitOptions {
  domain?: string;
  /** Number of outputs. Default 1. */
  outputs?: number;
}

export interface GraphBuilder {
  readonly graph: Graph;
  readonly types: Map<string, TensorType>;
  /** Appends a node and returns the names of its outputs. */
  emit(
    op: string,
    inputs: readonly string[],
    attributes?: Record<string, AttributeInit>,
    options?: EmitOptions,
  ): string[];
  /** {@link emit} for a node with one output. */
  op(op: string, inputs: readonly string[], attributes?: Record<string, AttributeInit>, options?: EmitOptions): string;
  /** A constant tensor; equal constants share one initializer. Scalars have dims []. */
  constant(
    dtype: 'float32' | 'int64' | 'int32' | 'bool' | 'float16' | 'float64',
    values: number | readonly number[],
  ): string;
  /** Appends a node made elsewhere (its outputs keep their names) and infers its types. */
  append(node: Node): void;
  /** Adds an initializer under a fresh name. */
  initializer(hint: string, tensor: Tensor): string;
  /** Declares a graph input. */
  input(name: string, type: TensorType): string;
  /** Declares a graph output. */
  output(name: string): void;
  type(name: string): TensorType;
  /** Shape with known rank. @throws PtunedError import_refused naming the value */
  shape(name: string): Dim[];
  fresh(hint: string): string;
  /** Infers the types of one existing node and stores them. */
  infer(node: Node): void;
}

/**
 * A builder over `graph`, which it changes in place. Types of existing nodes are inferred first.
 * @param reserved names that fresh ones must not take, because nodes that use them are appended later
 */
export function createBuilder(graph: Graph, inferNode: InferNode, reserved: Iterable<string> = []): GraphBuilder {
  const types = new Map<string, TensorType>();
  const constants = new Map<string, string>();
  const used = new Set<string>(reserved);
  const counters = new Map<string, number>();

  const builder: GraphBuilder = {
    graph,
    types,
    emit(op, inputs, attributes = {}, options = {}) {
      const outputs = Array.from({ length: options.outputs ?? 1 }, () => builder.fresh(op));
      const node: Node = {
        op,
        domain: options.domain ?? '',
        name: outputs[0]!,
        inputs: [...inputs],
        outputs,
        attributes: attributesOf(attributes),
      };
      graph.nodes.push(node);
      builder.infer(node);
      return outputs;
    },
    append(node) {
      for (const name of node.outputs) used.add(name);
      graph.nodes.push(node);
      builder.infer(node);
    },
    op(op, inputs, attributes, options) {
      return builder.emit(op, inputs, attributes, options)[0]!;
    },
    constant(dtype, values) {
      const list = typeof values === 'number' ? [values] : values;
      const dims = typeof values === 'number' ? [] : [list.length];
      const key = `${dtype}[${dims}]${list.map((one) => (Object.is(one, -0) ? '-0' : String(one))).join(',')}`;
      const found = constants.get(key);
      // A pass may have pruned it away in between.
      if (found !== undefined && graph.initializers.has(found)) return found;
      const name = builder.initializer('constant', tensorOf(dtype, dims, list));
      constants.set(key, name);
      return name;
    },
    initializer(hint, tensor) {
      const name = builder.fresh(hint);
      graph.initializers.set(name, tensor);
      types.set(name, typeOfTensor(tensor));
      return name;
    },
    input(name, type) {
      used.add(name);
      graph.inputs.push({ name, dtype: type.dtype, shape: type.shape });
      types.set(name, type);
      return name;
    },
    output(name) {
      const type = builder.type(name);
      graph.outputs.push({ name, dtype: type.dtype, shape: type.shape });
    },
    type(name) {
      const found = types.get(name);
      if (found === undefined) throw new Error(`value "${name}" is used before anything yields it`);
      return found;
    },
    shape(name) {
      const { shape } = builder.type(name);
      if (shape === null) {
        throw new PtunedError(
          'import_refused',
          `The rank of value "${name}" cannot be inferred, and its gradient needs it.`,
        );
      }
      return shape;
    },
    fresh(hint) {
      for (;;) {
        const count = counters.get(hint) ?? 0;
        counters.set(hint, count + 1);
        const name = `pt/${hint}_${count}`;
        if (!used.has(name)) {
          used.add(name);
          return name;
        }
      }
    },
    infer(node) {
      const inputs = node.inputs.map((name) => (name === '' ? null : builder.type(name)));
      const inferred = inferNode(node, inputs);
      node.outputs.forEach((name, i) => {
        if (name === '') return;
        const type = inferred[i];
        if (type === undefined) throw new Error(`${describeNode(node)} has no inferred type for output ${i}`);
        types.set(name, type);
      });
    },
  };

  for (const input of graph.inputs) {
    used.add(input.name);
    types.set(input.name, typeOf(input.dtype, input.shape));
  }
  for (const [name, tensor] of graph.initializers) {
    used.add(name);
    types.set(name, typeOfTensor(tensor));
  }
  for (const node of graph.nodes) {
    for (const name of node.outputs) used.add(name);
    builder.infer(node);
  }
  return builder;
}

/** An empty graph. */
export function emptyGraph(name: string): Graph {
  return { name, inputs: [], outputs: [], initializers: new Map(), nodes: [] };
}

/** A value in words, for messages: `"scores" float32 [batch, 4, sequence, sequence]`. */
export function describeValue(builder: GraphBuilder, name: string): string {
  const type = builder.types.get(name);
  return type === undefined ? `"${name}"` : `"${name}" ${type.dtype} ${shapeText(type.shape)}`;
}
