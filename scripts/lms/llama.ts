/** LLaMA: RMS norm and rotary positions written out, grouped-query attention, gated SiLU. */
import { attend, causalMask, maskFor, mergeHeads, splitHeads } from './attention.ts';
import { type Author, expand, languageHead, linear, maskInput, shape, size, tokenInput, withPast } from './author.ts';
import type { Family } from './registry.ts';
import type { LmShape } from './shape.ts';

const epsilon = 1e-5;
const theta = 10000;

interface Rotation {
  cos: string;
  sin: string;
}

export const llama: Family = {
  name: 'llama',
  defaults: { layers: 30, hidden: 576, heads: 9, keyValueHeads: 3, intermediate: 1536, vocabulary: 49152, positions: 2048 },
  intermediate: (hidden) => Math.ceil((8 * hidden) / 3 / 64) * 64,
  config: (one) => ({
    architectures: ['LlamaForCausalLM'],
    model_type: 'llama',
    num_hidden_layers: one.layers,
    hidden_size: one.hidden,
    num_attention_heads: one.heads,
    num_key_value_heads: one.keyValueHeads,
    intermediate_size: one.intermediate,
    max_position_embeddings: one.positions,
    vocab_size: one.vocabulary,
    hidden_act: 'silu',
    rms_norm_eps: epsilon,
    rope_theta: theta,
    tie_word_embeddings: true,
    bos_token_id: 0,
    eos_token_id: 0,
  }),
  logits(a, one) {
    const b = a.builder;
    const [ids, mask, positions] = [tokenInput(a, 'input_ids'), maskInput(a), tokenInput(a, 'position_ids')];
    const embedding = a.weight('model.embed_tokens.weight', [one.vocabulary, one.hidden]);
    let value = b.op('Gather', [embedding, ids]);
    const seen = causalMask(a, mask, ids);
    const rotation = rotary(a, positions, one.hidden / one.heads);
    for (let layer = 0; layer < one.layers; layer++) value = block(a, one, layer, value, seen, rotation);
    const normed = rmsNorm(a, 'model.norm', value, one.hidden);
    return languageHead(a, normed, embedding, [one.vocabulary, one.hidden]);
  },
}; // biome-ignore format: one line a step

function block(a: Author, one: LmShape, layer: number, value: string, mask: string, rotation: Rotation): string {
  const b = a.builder;
  const name = `model.layers.${layer}`;
  const { hidden, heads, keyValueHeads, intermediate } = one;
  const width = hidden / heads;
  const normed = rmsNorm(a, `${name}.input_layernorm`, value, hidden);
  const project = (which: string, count: number) => {
    const flat = linear(a, `${name}.self_attn.${which}`, normed, [hidden, count * width], false);
    return b.op('Transpose', [splitHeads(a, flat, width)], { perm: [0, 2, 1, 3] });
  };
  const query = rotate(a, project('q_proj', heads), rotation);
  const known = (part: 'key' | 'value', own: string) => withPast(a, layer, part, own, keyValueHeads, width);
  const keys = known('key', rotate(a, project('k_proj', keyValueHeads), rotation));
  const key = repeat(a, keys, heads / keyValueHeads);
  const values = repeat(a, known('value', project('v_proj', keyValueHeads)), heads / keyValueHeads);
  const transposedKey = b.op('Transpose', [key], { perm: [0, 1, 3, 2] });
  const attended = mergeHeads(a, attend(a, query, transposedKey, values, maskFor(a, mask, key)));
  const afterAttention = b.op('Add', [value, linear(a, `${name}.self_attn.o_proj`, attended, [hidden, hidden], false)]);
  const second = rmsNorm(a, `${name}.post_attention_layernorm`, afterAttention, hidden);
  const gate = linear(a, `${name}.mlp.gate_proj`, second, [hidden, intermediate], false);
  const silu = b.op('Mul', [gate, b.op('Sigmoid', [gate])]);
  const up = linear(a, `${name}.mlp.up_proj`, second, [hidden, intermediate], false);
  const down = linear(a, `${name}.mlp.down_proj`, b.op('Mul', [silu, up]), [intermediate, hidden], false);
  return b.op('Add', [afterAttention, down]);
}

/** γ · x / √(mean x² + ε), computed in float32. */
function rmsNorm(a: Author, name: string, value: string, width: number): string {
  const b = a.builder;
  const x = b.op('Cast', [value], { to: 1 });
  const float = (number: number) => b.constant('float32', number);
  const mean = b.op('ReduceMean', [b.op('Pow', [x, float(2)]), a.int([-1])], { keepdims: 1 });
  const deviation = b.op('Sqrt', [b.op('Add', [mean, float(epsilon)])]);
  const scaled = b.op('Mul', [x, b.op('Div', [float(1), deviation])]);
  const back = b.op('Cast', [scaled], { to: a.precision === 'float32' ? 1 : 10 });
  return b.op('Mul', [a.weight(`${name}.weight`, [width], { value: 1 }), back]);
}

/** Cosines and sines of position · frequency [batch, sequence, width], each frequency twice. */
function rotary(a: Author, positions: string, width: number): Rotation {
  const b = a.builder;
  const frequencies = Float32Array.from({ length: width / 2 }, (_, i) => theta ** ((-2 * i) / width));
  const data = new Uint8Array(frequencies.buffer);
  const inverse = b.initializer('inv_freq', { dtype: 'float32', dims: [1, width / 2, 1], data });
  const columns = expand(a, inverse, [size(a, positions, 0), -1, 1]);
  const rows = b.op('Cast', [b.op('Unsqueeze', [positions, a.int([1])])], { to: 1 });
  const angles = b.op('Transpose', [b.op('MatMul', [columns, rows])], { perm: [0, 2, 1] });
  const twice = b.op('Concat', [angles, angles], { axis: -1 });
  const of = (op: string) => {
    const value = b.op('Mul', [b.op(op, [twice]), b.constant('float32', 1)]);
    return b.op('Unsqueeze', [b.op('Cast', [value], { to: a.precision === 'float32' ? 1 : 10 }), a.int([1])]);
  };
  return { cos: of('Cos'), sin: of('Sin') };
}

/** x · cos + (−x₂, x₁) · sin. */
function rotate(a: Author, x: string, { cos, sin }: Rotation): string {
  const b = a.builder;
  const half = b.op('Unsqueeze', [b.op('Div', [size(a, x, 3), a.int(2)]), a.int([0])]);
  const first = b.op('Slice', [x, a.int([0]), half, a.int([3]), a.int([1])]);
  const second = b.op('Slice', [x, half, a.int([2 ** 63]), a.int([3]), a.int([1])]);
  const turned = b.op('Concat', [b.op('Neg', [second]), first], { axis: -1 });
  return b.op('Add', [b.op('Mul', [x, cos]), b.op('Mul', [turned, sin])]);
}

/** Each key/value head for a group of query heads. */
function repeat(a: Author, value: string, times: number): string {
  if (times === 1) return value;
  const b = a.builder;
  const [rows, heads, length, width] = [0, 1, 2, 3].map((axis) => size(a, value, axis));
  const wide = expand(a, b.op('Unsqueeze', [value, a.int([2])]), [rows!, heads!, times, length!, width!]);
  const all = b.op('Mul', [heads!, a.int(times)]);
  return b.op('Reshape', [wide, shape(a, [rows!, all, length!, width!])], { allowzero: 0 });
}
