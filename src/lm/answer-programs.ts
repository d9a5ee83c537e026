/** The graphs an encoder-decoder LM answers with: its encoder, and its decoder behind it. */
import { assemble, type LmGraph } from './assemble.ts';
import { feeds, targetInput } from './feeds.ts';
import { focusAtTargets } from './focus.ts';
import { asFloat32, finish, type Program, targetsOf } from './programs.ts';

/** ids, mask, slots, table -> what the encoder hands to the decoder [batch, sequence, hidden]. */
export function encoderProgram(lm: LmGraph, encoded: string): Program {
  const { builder, nameOf } = assemble(lm, { past: 'empty', lower: false });
  return finish(lm, builder, [nameOf(encoded)]);
}

/** mask, decoder ids, targets and {@link encoderProgram}'s output, under its name -> logits [batch, 1, V] float32. */
export function decoderProgram(lm: LmGraph, encoded: string): Program & { encoded: string } {
  const { builder, logits, nameOf } = assemble(lm, { past: 'empty', lower: false });
  const handed = nameOf(encoded);
  const { graph } = builder;
  graph.nodes = graph.nodes.filter((node) => !node.outputs.includes(handed));
  graph.inputs.push({ name: handed, ...builder.type(handed) });
  targetInput(builder, feeds.targets);
  return {
    ...finish(lm, builder, [asFloat32(builder, focusAtTargets(builder, logits, targetsOf(builder)))]),
    encoded: handed,
  };
}
