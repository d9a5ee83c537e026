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
  const names = createNames(reserved);
  const types = createTypes(inferNode);
  const values = createValues(graph, names, types);
  const append = (node: Node): void => {
    for (const name of node.outputs) names.take(name);
    graph.nodes.push(node);
    types.infer(node);
  };
  const emit: GraphBuilder['emit'] = (op, inputs, attributes = {}, options = {}) => {
    const outputs = Array.from({ length: options.outputs ?? 1 }, () => names.fresh(op));
    const domain = options.domain ?? '';
    append({ op, domain, name: outputs[0]!, inputs: [...inputs], outputs, attributes: attributesOf(attributes) });
    return outputs;
  };
  for (const { name, dtype, shape } of graph.inputs) values.know(name, typeOf(dtype, shape));
  for (const [name, tensor] of graph.initializers) values.know(name, typeOfTensor(tensor));
  for (const node of graph.nodes) {
    for (const name of node.outputs) names.take(name);
    types.infer(node);
  }
  return {
    graph,
    types: types.known,
    emit,
    op: (...given) => emit(...given)[0]!,
    append,
    constant: createConstants(graph, values.initializer),
    initializer: values.initializer,
    input: values.input,
    output: values.output,
    type: types.of,
    shape: types.shapeOf,
    fresh: names.fresh,
    infer: types.infer,
  };
}

/** Names of a graph's values and nodes, each given once. */
function createNames(reserved: Iterable<string>) {
  const used = new Set<string>(reserved);
  const counters = new Map<string, number>();
  return {
    take: (name: string) => void used.add(name),
    fresh(hint: string): string {
      for (;;) {
        const count = counters.get(hint) ?? 0;
        counters.set(hint, count + 1);
        const name = `pt/${hint}_${count}`;
        if (used.has(name)) continue;
        used.add(name);
        return name;
      }
    },
  };
}

function createTypes(inferNode: InferNode) {
  const known = new Map<string, TensorType>();
  const of = (name: string): TensorType => {
    const found = known.get(name);
    if (found === undefined) throw new Error(`value "${name}" is used before anything yields it`);
    return found;
  };
  return {
    known,
    of,
    shapeOf(name: string): Dim[] {
      const { shape } = of(name);
      if (shape !== null) return shape;
      const message = `The rank of value "${name}" cannot be inferred, and its gradient needs it.`;
      throw new PtunedError('import_refused', message);
    },
    infer(node: Node): void {
      const inferred = inferNode(
        node,
        node.inputs.map((name) => (name === '' ? null : of(name))),
      );
      node.outputs.forEach((name, i) => {
        if (name === '') return;
        const type = inferred[i];
        if (type === undefined) throw new Error(`${describeNode(node)} has no inferred type for output ${i}`);
        known.set(name, type);
      });
    },
  };
}

/** Values that no node yields: inputs and initializers; and those that are yielded to the outside. */
function createValues(
  graph: Graph,
  names: ReturnType<typeof createNames>,
  types: Pick<ReturnType<typeof createTypes>, 'known' | 'of'>,
) {
  const know = (name: string, type: TensorType): void => {
    names.take(name);
    types.known.set(name, type);
  };
  return {
    know,
    initializer(hint: string, tensor: Tensor): string {
      const name = names.fresh(hint);
      graph.initializers.set(name, tensor);
      know(name, typeOfTensor(tensor));
      return name;
    },
    input(name: string, type: TensorType): string {
      graph.inputs.push({ name, dtype: type.dtype, shape: type.shape });
      know(name, type);
      return name;
    },
    output(name: string): void {
      const { dtype, shape } = types.of(name);
      graph.outputs.push({ name, dtype, shape });
    },
  };
}

/** Equal constants share one initializer. */
function createConstants(graph: Graph, initializer: GraphBuilder['initializer']): GraphBuilder['constant'] {
  const constants = new Map<string, string>();
  return (dtype, values) => {
    const list = typeof values === 'number' ? [values] : values;
    const dims = typeof values === 'number' ? [] : [list.length];
    const key = `${dtype}[${dims}]${list.map((one) => (Object.is(one, -0) ? '-0' : String(one))).join(',')}`;
    const found = constants.get(key);
    // A pass may have pruned it away in between.
    if (found !== undefined && graph.initializers.has(found)) return found;
    const name = initializer('constant', tensorOf(dtype, dims, list));
    constants.set(key, name);
    return name;
  };
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
