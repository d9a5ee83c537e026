/** Opens a prompt encoder: one session that folds the table, one that yields the parameters' gradients. */

import { checkGraph } from '../autodiff/check.ts';
import { appendGradient, isRowProduct } from '../autodiff/gradient.ts';
import { prune } from '../autodiff/prune.ts';
import { PtunedError } from '../errors.ts';
import { createBuilder, emptyGraph, type GraphBuilder } from '../onnx/builder.ts';
import type { Graph, Model, Node } from '../onnx/ir.ts';
import { createSession, type Feed } from '../onnx/session.ts';
import { typeOf } from '../onnx/types.ts';
import { inferNode } from '../ops/registry.ts';
import { weightsOnTheLeft } from './few-rows.ts';
import { type Gradient, mostTerms } from './gradients.ts';
import { promptMethods } from './methods.ts';
import { createRandom } from './random.ts';
import type { EncoderShape, Parameters, PromptEncoder } from './types.ts';

const baseFeed = 'feed/base';
const gradientFeed = 'feed/table_gradient';

/** @throws PtunedError invalid_request when the encoder does not fit the LM */
export async function openEncoder(shape: EncoderShape, options: { threads: number }): Promise<PromptEncoder> {
  const method = promptMethods[shape.type];
  const refusal = method.refuse(shape);
  if (refusal !== null)
    throw new PtunedError('invalid_request', `encoder.type ${shape.type}: ${refusal}.`, { param: 'encoder.type' });
  const specs = method.parameters(shape);
  const names = specs.map((spec) => spec.name);
  const { forward, backward, carried } = encoderModels(shape, names);
  // Few rows: a product only reads its weight, and a second thread costs more in waiting than it reads.
  const threads = shape.virtualTokens > mostTerms ? options.threads : 1;
  const sessionOptions = { threads, device: 'cpu' as const, prepack: false };
  const forwardSession = await createSession(forward.model, sessionOptions);
  const backwardSession = await createSession(backward.model, sessionOptions);
  const feedsOf = (parameters: Parameters, wanted: readonly string[]): Record<string, Feed> => {
    const feeds: Record<string, Feed> = {};
    for (const name of wanted) {
      const found = parameters.get(name);
      if (found !== undefined) feeds[name] = { dtype: 'float32', dims: found.shape, data: found.values };
    }
    return feeds;
  };
  const dims = [shape.virtualTokens, shape.width];
  let last: Record<string, Feed> = {};
  return {
    shape,
    initialise(seed) {
      const random = createRandom(seed);
      return new Map(specs.map((spec) => [spec.name, { shape: spec.shape, values: spec.initialise(random) }]));
    },
    async forward(parameters) {
      const feeds = feedsOf(parameters, forwardSession.inputs);
      if (shape.base !== null) feeds[baseFeed] = { dtype: 'float32', dims, data: shape.base };
      const results = await forwardSession.run(feeds);
      last = Object.fromEntries(carried.map((name) => [name, results[name]!]));
      return results[forward.output]!.data as Float32Array;
    },
    async gradient(parameters, tableGradient) {
      const feeds: Record<string, Feed> = { ...feedsOf(parameters, backwardSession.inputs), ...last };
      feeds[gradientFeed] = { dtype: 'float32', dims, data: tableGradient };
      const results = await backwardSession.run(feeds);
      const read = (output: string) => results[output]!;
      return new Map(names.map((name) => [name, gradientOf(backward.outputs.get(name)!, read)]));
    },
    async close() {
      await forwardSession.close();
      await backwardSession.close();
    },
  };
}

function declare(shape: EncoderShape): GraphBuilder {
  const builder = createBuilder(emptyGraph('encoder'), inferNode);
  for (const spec of promptMethods[shape.type].parameters(shape))
    builder.input(spec.name, typeOf('float32', spec.shape));
  return builder;
}

/** Outputs that hold a gradient: itself, or the factors of the outer products it is a sum of. */
type GradientOutputs = { whole: string } | { left: string; right: string };

function gradientOf(outputs: GradientOutputs, read: (output: string) => Feed): Gradient {
  const values = (output: string) => read(output).data as Float32Array;
  if ('whole' in outputs) return values(outputs.whole);
  return { terms: read(outputs.left).dims[0]!, left: values(outputs.left), right: values(outputs.right) };
}

interface EncoderModels {
  /** parameters (and base) -> table [n, H], and the values that the gradient needs. */
  forward: { model: Model; output: string };
  /** parameters, carried values and dLoss/dtable -> gradient of every parameter. */
  backward: { model: Model; outputs: Map<string, GradientOutputs> };
  /** Activations, from one to the other: small beside the parameters that they come from. */
  carried: string[];
}

function encoderModels(shape: EncoderShape, names: readonly string[]): EncoderModels {
  const builder = declare(shape);
  const encoded = promptMethods[shape.type].forward(builder, shape);
  const forward = [...builder.graph.nodes];
  builder.input(gradientFeed, typeOf('float32', [shape.virtualTokens, shape.width]));
  const gradients = appendGradient(builder, { seeds: new Map([[encoded, gradientFeed]]), wrt: names });
  const outputs = gradientOutputs(builder, gradients);
  const wanted = [...outputs.values()].flatMap((one) => ('whole' in one ? [one.whole] : [one.left, one.right]));
  const backward = modelOf({ ...builder.graph, nodes: builder.graph.nodes.slice(forward.length) }, builder, wanted);
  const activations = new Set(forward.flatMap((node) => node.outputs));
  const carried = backward.graph.inputs.map((input) => input.name).filter((name) => activations.has(name));

  builder.graph.nodes = weightsOnTheLeft(builder, forward);
  let table = encoded;
  // The base only shifts the table and plays no part in the gradient.
  if (shape.base !== null) {
    builder.input(baseFeed, typeOf('float32', [shape.virtualTokens, shape.width]));
    table = builder.op('Add', [table, baseFeed]);
  }
  const results = [table, ...carried.filter((name) => name !== table)];
  const model = modelOf(builder.graph, builder, results);
  return { forward: { model, output: table }, backward: { model: backward, outputs }, carried };
}

/** The graph as a model of its own: what its nodes read and do not yield are its inputs. */
function modelOf(graph: Graph, builder: GraphBuilder, wanted: readonly string[]): Model {
  const valueInfo = (name: string) => ({ name, ...builder.type(name) });
  const own: Graph = { ...graph, initializers: new Map(graph.initializers), outputs: wanted.map(valueInfo) };
  prune(own);
  const yielded = new Set([...own.initializers.keys(), ...own.nodes.flatMap((node) => node.outputs)]);
  const read = new Set([...own.nodes.flatMap((node) => node.inputs), ...wanted]);
  own.inputs = [...read].filter((name) => name !== '' && !yielded.has(name)).map(valueInfo);
  checkGraph(own, 'encoder');
  const opsets = new Map([
    ['', 21],
    ['com.microsoft', 1],
  ]);
  return { irVersion: 10, producer: 'ptuned', opsets, graph: own, functions: [] };
}

/** onnxruntime refuses an output listed twice, and one value may serve two parameters (the LSTM's two biases). */
function gradientOutputs(builder: GraphBuilder, gradients: ReadonlyMap<string, string>): Map<string, GradientOutputs> {
  const producers = new Map(builder.graph.nodes.map((node) => [node.outputs[0]!, node]));
  const taken = new Set<string>();
  // What no node of the gradient yields (its seed, an activation) becomes an output under another name.
  const output = (value: string): string => {
    const name = taken.has(value) || !producers.has(value) ? builder.op('Identity', [value]) : value;
    taken.add(name);
    return name;
  };
  return new Map(
    [...gradients].map(([name, gradient]) => {
      const factors = outerFactors(builder, producers.get(gradient));
      const outputs: GradientOutputs =
        factors === null ? { whole: output(gradient) } : { left: output(factors[0]), right: output(factors[1]) };
      return [name, outputs];
    }),
  );
}

/** left and right of a gradient leftᵀ·right that is cheaper to keep as such; null for any other. */
function outerFactors(builder: GraphBuilder, node: Node | undefined): [string, string] | null {
  if (node === undefined || !isRowProduct(builder, node)) return null;
  const [left, right] = node.inputs as [string, string];
  const terms = builder.shape(left)[0]!;
  return typeof terms === 'number' && terms <= mostTerms ? [left, right] : null;
}
