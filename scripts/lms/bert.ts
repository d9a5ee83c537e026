/** BERT: post-norm, learned positions and token types, GELU in its erf form, masked-LM head with a transform. */
import { attend, mergeHeads, paddingMask, splitHeads } from './attention.ts';
import { type Author, languageHead, layerNorm, linear, size, tokenInput } from './author.ts';
import type { Family } from './registry.ts';
import type { LmShape } from './shape.ts';

const epsilon = 1e-12;

export const bert: Family = {
  name: 'bert',
  defaults: { layers: 12, hidden: 768, heads: 12, vocabulary: 30522, positions: 512 },
  intermediate: (hidden) => 4 * hidden,
  config: (one) => ({
    architectures: ['BertForMaskedLM'],
    model_type: 'bert',
    num_hidden_layers: one.layers,
    hidden_size: one.hidden,
    num_attention_heads: one.heads,
    intermediate_size: one.intermediate,
    max_position_embeddings: one.positions,
    vocab_size: one.vocabulary,
    type_vocab_size: 2,
    hidden_act: 'gelu',
    layer_norm_eps: epsilon,
    pad_token_id: 0,
  }),
  logits(a, one) {
    const b = a.builder;
    const [ids, mask, types] = ['input_ids', 'attention_mask', 'token_type_ids'].map((name) => tokenInput(a, name));
    const table = (name: string, rows: number) => a.weight(`bert.embeddings.${name}.weight`, [rows, one.hidden]);
    const embedding = table('word_embeddings', one.vocabulary);
    const words = b.op('Gather', [embedding, ids!]);
    const typed = b.op('Add', [words, b.op('Gather', [table('token_type_embeddings', 2), types!])]);
    const places = b.op('Gather', [table('position_embeddings', one.positions), positions(a, ids!, one.positions)]);
    let value = layerNorm(a, 'bert.embeddings.LayerNorm', b.op('Add', [typed, places]), one.hidden, epsilon);
    const added = paddingMask(a, mask!);
    for (let layer = 0; layer < one.layers; layer++) value = block(a, one, `bert.encoder.layer.${layer}`, value, added);
    const transform = 'cls.predictions.transform';
    const dense = geluErf(a, linear(a, `${transform}.dense`, value, [one.hidden, one.hidden], true));
    const normed = layerNorm(a, `${transform}.LayerNorm`, dense, one.hidden, epsilon);
    const scores = languageHead(a, normed, embedding, [one.vocabulary, one.hidden]);
    return b.op('Add', [a.weight('cls.predictions.bias', [one.vocabulary], { value: 0 }), scores]);
  },
};

/** 0, 1, … cut to the sequence's length [1, sequence]. */
function positions(a: Author, ids: string, most: number): string {
  const b = a.builder;
  const data = BigInt64Array.from({ length: most }, (_, i) => BigInt(i));
  const all = b.initializer('positions', { dtype: 'int64', dims: [1, most], data: new Uint8Array(data.buffer) });
  const length = b.op('Unsqueeze', [size(a, ids, 1), a.int([0])]);
  return b.op('Slice', [all, a.int([0]), length, a.int([1]), a.int([1])]);
}

function block(a: Author, one: LmShape, name: string, value: string, mask: string): string {
  const b = a.builder;
  const { hidden, heads, intermediate } = one;
  const project = (which: string) =>
    splitHeads(a, linear(a, `${name}.attention.self.${which}`, value, [hidden, hidden], true), hidden / heads);
  const query = b.op('Transpose', [project('query')], { perm: [0, 2, 1, 3] });
  const key = b.op('Transpose', [project('key')], { perm: [0, 2, 3, 1] });
  const values = b.op('Transpose', [project('value')], { perm: [0, 2, 1, 3] });
  const attended = mergeHeads(a, attend(a, query, key, values, mask));
  const out = linear(a, `${name}.attention.output.dense`, attended, [hidden, hidden], true);
  const first = layerNorm(a, `${name}.attention.output.LayerNorm`, b.op('Add', [out, value]), hidden, epsilon);
  const inner = geluErf(a, linear(a, `${name}.intermediate.dense`, first, [hidden, intermediate], true));
  const back = linear(a, `${name}.output.dense`, inner, [intermediate, hidden], true);
  return layerNorm(a, `${name}.output.LayerNorm`, b.op('Add', [back, first]), hidden, epsilon);
}

/** x (1 + erf(x/√2)) / 2. */
function geluErf(a: Author, x: string): string {
  const b = a.builder;
  const erf = b.op('Erf', [b.op('Div', [x, a.float(Math.SQRT2)])]);
  return b.op('Mul', [b.op('Mul', [x, b.op('Add', [erf, a.float(1)])]), a.float(0.5)]);
}
