/** Opens a prompt encoder: one session that folds the table, one that yields the parameters' gradients. */

import { checkGraph } from '../autodiff/check.ts';
import { appendGradient, isRowProduct } from '../autodiff/gradient.ts';
import { prune } from '../autodiff/prune.ts';
import { PtunedError } from '../errors.ts';
import { createBuilder, emptyGraph, type GraphBuilder } from '../onnx/builder.ts';
import type { Model, Node } from '../onnx/ir.ts';
import { createSession, type Feed } from '../onnx/session.ts';
import { typeOf } from '../onnx/types.ts';
import { inferNode } from '../ops/registry.ts';
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
  const [forward, backward] = [forwardModel(shape), backwardModel(shape, names)];
  const sessionOptions = { ...options, device: 'cpu' as const, prepack: false };
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
      return results[forward.output]!.data as Float32Array;
    },
    async gradient(parameters, tableGradient) {
      const feeds = feedsOf(parameters, backwardSession.inputs);
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

function modelOf(builder: GraphBuilder, outputs: readonly string[]): Model {
  for (const name of outputs) builder.output(name);
  prune(builder.graph);
  checkGraph(builder.graph, 'encoder');
  const read = new Set([...builder.graph.nodes.flatMap((node) => node.inputs), ...outputs]);
  builder.graph.inputs = builder.graph.inputs.filter((input) => read.has(input.name));
  const opsets = new Map([
    ['', 21],
    ['com.microsoft', 1],
  ]);
  return { irVersion: 10, producer: 'ptuned', opsets, graph: builder.graph, functions: [] };
}

/** parameters (and base) -> table [n, H]. */
function forwardModel(shape: EncoderShape): { model: Model; output: string } {
  const builder = declare(shape);
  let table = promptMethods[shape.type].forward(builder, shape);
  if (shape.base !== null) {
    builder.input(baseFeed, typeOf('float32', [shape.virtualTokens, shape.width]));
    table = builder.op('Add', [table, baseFeed]);
  }
  return { model: modelOf(builder, [table]), output: table };
}

/** Outputs that hold a gradient: itself, or the factors of the outer products it is a sum of. */
type GradientOutputs = { whole: string } | { left: string; right: string };

function gradientOf(outputs: GradientOutputs, read: (output: string) => Feed): Gradient {
  const values = (output: string) => read(output).data as Float32Array;
  if ('whole' in outputs) return values(outputs.whole);
  return { terms: read(outputs.left).dims[0]!, left: values(outputs.left), right: values(outputs.right) };
}

/** parameters and dLoss/dtable -> gradient of every parameter. The base only shifts the table and plays no part. */
function backwardModel(
  shape: EncoderShape,
  names: readonly string[],
): { model: Model; outputs: Map<string, GradientOutputs> } {
  const builder = declare(shape);
  const table = promptMethods[shape.type].forward(builder, shape);
  builder.input(gradientFeed, typeOf('float32', [shape.virtualTokens, shape.width]));
  const gradients = appendGradient(builder, { seeds: new Map([[table, gradientFeed]]), wrt: names });
  // onnxruntime refuses an output listed twice, and one value may serve two parameters (the LSTM's two biases).
  const taken = new Set<string>(builder.graph.inputs.map((input) => input.name));
  const output = (value: string): string => {
    const name = taken.has(value) ? builder.op('Identity', [value]) : value;
    taken.add(name);
    return name;
  };
  const producers = new Map(builder.graph.nodes.map((node) => [node.outputs[0]!, node]));
  const outputs = new Map<string, GradientOutputs>();
  for (const [name, gradient] of gradients) {
    const factors = outerFactors(builder, producers.get(gradient));
    outputs.set(
      name,
      factors === null ? { whole: output(gradient) } : { left: output(factors[0]), right: output(factors[1]) },
    );
  }
  const all = [...outputs.values()].flatMap((one) => ('whole' in one ? [one.whole] : [one.left, one.right]));
  return { model: modelOf(builder, all), outputs };
}

/** left and right of a gradient leftᵀ·right that is cheaper to keep as such; null for any other. */
function outerFactors(builder: GraphBuilder, node: Node | undefined): [string, string] | null {
  if (node === undefined || !isRowProduct(builder, node)) return null;
  const [left, right] = node.inputs as [string, string];
  const terms = builder.shape(left)[0]!;
  return typeof terms === 'number' && terms <= mostTerms ? [left, right] : null;
}
