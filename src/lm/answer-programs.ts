/** The graphs an encoder-decoder LM answers with: its encoder, and its decoder behind it. */
import { assemble, type LmGraph } from './assemble.ts';
import { feeds, targetInput } from './feeds.ts';
import { atTokens } from './focus.ts';
import { asFloat32, finish, type Program, targetsOf } from './programs.ts';

/** ids, mask, slots, table -> what the encoder hands to the decoder [batch, sequence, hidden]. */
export function encoderProgram(lm: LmGraph, encoded: string): Program {
  const { builder, nameOf } = assemble(lm, { past: 'empty', lower: false });
  return finish(lm, builder, [nameOf(encoded)]);
}

export interface DecoderProgram extends Program {
  logits: string;
  /** The input that takes {@link encoderProgram}'s output. */
  encoded: string;
  /** Outputs that are keys and values, under the export's names for them. */
  presents: ReadonlyMap<string, string>;
}

/**
 * mask, decoder ids, targets and {@link encoderProgram}'s output, under its name -> logits [batch, 1, V] float32, and these
 * outputs of the export.
 */
export function decoderProgram(lm: LmGraph, encoded: string, presents: readonly string[] = []): DecoderProgram {
  const { builder, logits, nameOf } = assemble(lm, { past: 'empty', lower: false });
  const handed = nameOf(encoded);
  const { graph } = builder;
  graph.nodes = graph.nodes.filter((node) => !node.outputs.includes(handed));
  graph.inputs.push({ name: handed, ...builder.type(handed) });
  targetInput(builder, feeds.targets);
  const read = asFloat32(builder, atTokens(builder, logits, targetsOf(builder)));
  const named = new Map(presents.map((name) => [name, nameOf(name)]));
  return { ...finish(lm, builder, [read, ...named.values()]), logits: read, encoded: handed, presents: named };
}
