/** Rotary position embeddings (Su et al., arXiv 2104.09864) by the runtime's own kernel. */
import type { Op, Vjp } from './op.ts';
import { likeFirst } from './shared.ts';

/** Pairs of features are turned by an angle; their gradients are turned back by it. */
const turnBack: Vjp = (c) => {
  const b = c.builder;
  const name = b.fresh('RotaryEmbedding');
  const back = b.op('Neg', [c.input(3)]);
  const inputs = [c.gradient(0), c.input(1), c.input(2), back];
  b.append({ ...c.node, name, inputs, outputs: [name], attributes: new Map(c.node.attributes) });
  return [name, null, null, null];
};

export const rotaryOps: Op[] = [
  { name: 'RotaryEmbedding', domain: 'com.microsoft', opsets: [1], infer: likeFirst, vjp: turnBack },
];
