/** GPT-2: pre-norm, learned positions, Gemm for every projection, GELU in its tanh form. */
import { attend, causalMask, maskFor, mergeHeads, splitHeads } from './attention.ts';
import { type Author, languageHead, layerNorm, maskInput, shape, size, tokenInput, withPast } from './author.ts';
import type { Family } from './registry.ts';
import type { LmShape } from './shape.ts';

const epsilon = 1e-5;

export const gpt2: Family = {
  name: 'gpt2',
  defaults: { layers: 12, hidden: 768, heads: 12, vocabulary: 50257, positions: 1024 },
  intermediate: (hidden) => 4 * hidden,
  config: (one) => ({
    architectures: ['GPT2LMHeadModel'],
    model_type: 'gpt2',
    n_layer: one.layers,
    n_embd: one.hidden,
    n_head: one.heads,
    n_inner: one.intermediate,
    n_positions: one.positions,
    vocab_size: one.vocabulary,
    activation_function: 'gelu_new',
    layer_norm_epsilon: epsilon,
    bos_token_id: 0,
    eos_token_id: 0,
  }),
  logits(a, one) {
    const b = a.builder;
    const [ids, mask, positions] = [tokenInput(a, 'input_ids'), maskInput(a), tokenInput(a, 'position_ids')];
    const embedding = a.weight('transformer.wte.weight', [one.vocabulary, one.hidden]);
    const words = b.op('Gather', [embedding, ids]);
    const places = b.op('Gather', [a.weight('transformer.wpe.weight', [one.positions, one.hidden]), positions]);
    let value = b.op('Add', [words, places]);
    const seen = causalMask(a, mask, ids);
    for (let layer = 0; layer < one.layers; layer++) value = block(a, one, layer, value, seen);
    const normed = layerNorm(a, 'transformer.ln_f', value, one.hidden, epsilon);
    return languageHead(a, normed, embedding, [one.vocabulary, one.hidden]);
  },
};

function block(a: Author, one: LmShape, layer: number, value: string, mask: string): string {
  const b = a.builder;
  const { hidden, heads, intermediate } = one;
  const name = `transformer.h.${layer}`;
  const width = hidden / heads;
  const normed = layerNorm(a, `${name}.ln_1`, value, hidden, epsilon);
  const fused = conv1d(a, `${name}.attn.c_attn`, normed, [hidden, 3 * hidden]);
  const parts = b.emit('Split', [fused, a.int([hidden, hidden, hidden])], { axis: 2 }, { outputs: 3 });
  const [query, key, values] = parts.map((part) => splitHeads(a, part, width));
  const headsFirst = (part: string) => b.op('Transpose', [part], { perm: [0, 2, 1, 3] });
  const keys = withPast(a, layer, 'key', headsFirst(key!), heads, width);
  const all = withPast(a, layer, 'value', headsFirst(values!), heads, width);
  const transposedKey = a.cache
    ? b.op('Transpose', [keys], { perm: [0, 1, 3, 2] })
    : b.op('Transpose', [key!], { perm: [0, 2, 3, 1] });
  const attended = mergeHeads(a, attend(a, headsFirst(query!), transposedKey, all, maskFor(a, mask, keys)));
  const afterAttention = b.op('Add', [conv1d(a, `${name}.attn.c_proj`, attended, [hidden, hidden]), value]);
  const second = layerNorm(a, `${name}.ln_2`, afterAttention, hidden, epsilon);
  const inner = geluTanh(a, conv1d(a, `${name}.mlp.c_fc`, second, [hidden, intermediate]));
  return b.op('Add', [afterAttention, conv1d(a, `${name}.mlp.c_proj`, inner, [intermediate, hidden])]);
}

/** Transformers' Conv1D: a Gemm over all rows. */
function conv1d(a: Author, name: string, value: string, [inputs, outputs]: [number, number]): string {
  const b = a.builder;
  const rows = b.op('Reshape', [value, a.int([-1, inputs])], { allowzero: 0 });
  const weight = a.weight(`${name}.weight`, [inputs, outputs]);
  const bias = a.weight(`${name}.bias`, [outputs], { value: 0 });
  const product = b.op('Gemm', [rows, weight, bias], { alpha: { float: 1 }, beta: { float: 1 } });
  return b.op('Reshape', [product, shape(a, [size(a, value, 0), size(a, value, 1), outputs])], { allowzero: 0 });
}

/** x/2 · (1 + tanh(√(2/π)(x + 0.044715 x³))). */
function geluTanh(a: Author, x: string): string {
  const b = a.builder;
  const cubed = b.op('Mul', [b.op('Pow', [x, a.float(3)]), a.float(0.044715)]);
  const inner = b.op('Mul', [b.op('Add', [x, cubed]), a.float(Math.sqrt(2 / Math.PI))]);
  const half = b.op('Mul', [x, a.float(0.5)]);
  return b.op('Mul', [half, b.op('Add', [b.op('Tanh', [inner]), a.float(1)])]);
}
