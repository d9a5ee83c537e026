/**
 * A decoder that goes on from its cache: one token more for each row, behind keys and values of the tokens before it and of
 * the encoded text. Exported beside the decoder that reads a whole answer, which fills the cache first.
 */
import { namesOf } from '../autodiff/prune.ts';
import { replay } from '../autodiff/replay.ts';
import { presentOf } from '../models/past.ts';
import { createBuilder, emptyGraph, type GraphBuilder } from '../onnx/builder.ts';
import { symbol } from '../onnx/dim.ts';
import type { Model, ValueInfo } from '../onnx/ir.ts';
import { typeOf } from '../onnx/types.ts';
import { inferNode } from '../ops/registry.ts';
import { castTo } from '../ops/shared.ts';
import { batch, feeds, sequence } from './feeds.ts';
import { asFloat32, finish, type Program } from './programs.ts';

/** Keys or values of one layer. */
export interface CacheEntry {
  /** The past input of a step. */
  input: string;
  /** The export's name of the output that becomes it: of a step for {@link StepProgram.answer}, else of the beginning. */
  present: string;
}

export interface StepProgram extends Program {
  logits: string;
  /** Of the answer, one token longer after each step: [batch, heads, tokens, size]. */
  answer: (CacheEntry & { output: string })[];
  /** Of the encoded text, which stay as they are: [batch, heads, sequence, size]. */
  text: CacheEntry[];
}

const pastPrefix = 'past_key_values.';
/** An input of merged decoders, which have the inputs of both their branches, and of old exports. */
export const encodedInput = 'encoder_hidden_states';

/**
 * decoder ids [batch, 1], mask, past inputs -> logits [batch, 1, V] float32, then the answer's keys and values.
 * @param presents outputs of the decoder that begins
 * @returns null where the graph takes what is not known here
 */
export function stepProgram({ graph, ...model }: Model, presents: ReadonlySet<string>): StepProgram | null {
  const logits = graph.outputs.find((one) => one.name === 'logits');
  const entries = graph.inputs.filter(isPast).map(({ name }) => ({ input: name, present: presentOf(name) }));
  if (logits === undefined || entries.length === 0 || !entries.every(({ present }) => presents.has(present)))
    return null;
  const builder = createBuilder(emptyGraph('step'), inferNode, namesOf(graph));
  builder.input(feeds.decoderIds, typeOf('int64', [batch, 1]));
  builder.input(feeds.mask, typeOf('int64', [batch, sequence]));
  const renamed = new Map<string, string>();
  for (const input of graph.inputs) {
    const value = inputValue(builder, input);
    if (value === null) return null;
    renamed.set(input.name, value);
  }
  replay(builder, graph, { renamed, lower: () => false });
  const nameOf = (name: string) => renamed.get(name) ?? name;
  const answer = entries
    .filter(({ input }) => !isOfText(input))
    .map((one) => ({ ...one, output: nameOf(one.present) }));
  const outputs = [asFloat32(builder, nameOf(logits.name)), ...answer.map((one) => one.output)];
  const program = finish({ model: { ...model, graph }, redundant: undefined }, builder, outputs);
  return { ...program, logits: outputs[0]!, answer, text: entries.filter(({ input }) => isOfText(input)) };
}

/** Outputs of a decoder that become past inputs of a step. */
export function presentsOf({ graph }: Model): string[] {
  return graph.outputs.map((one) => one.name).filter((name) => name.startsWith('present.'));
}

function isPast({ name }: ValueInfo): boolean {
  return name.startsWith(pastPrefix);
}

function isOfText(past: string): boolean {
  return past.includes('.encoder.');
}

function inputValue(builder: GraphBuilder, input: ValueInfo): string | null {
  const { name, dtype, shape } = input;
  if (name === 'input_ids') return castTo(builder, feeds.decoderIds, dtype);
  if (name === 'encoder_attention_mask') return castTo(builder, feeds.mask, dtype);
  if (dtype !== 'float32') return null;
  if (name === encodedInput) return builder.input(name, typeOf(dtype, shape));
  if (!isPast(input) || shape?.length !== 4) return null;
  const tokens = isOfText(name) ? sequence : symbol('past');
  return builder.input(name, typeOf(dtype, [batch, shape[1]!, tokens, shape[3]!]));
}
