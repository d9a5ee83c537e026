/** Fused ops: their primitives' gradients against finite differences of the fused kernels. Batch and sequence are symbolic. */
import type { AttributeInit } from '../../../src/onnx/ir.ts';
import type { CaseInput, GradientCase } from '../gradient-check.ts';
import { bools, fed, floats, ints, uniform } from './inputs.ts';

const domain = 'com.microsoft';

/** An activation [batch, sequence, …] or with the axes that are symbolic. */
const active = (shape: number[], dynamic = [0, 1]): CaseInput => ({ ...uniform(shape, -1, 1), dynamic });
const weight = (shape: number[]): CaseInput => ({ ...uniform(shape, -1, 1), dynamic: [] });

function fused(
  op: string,
  inputs: (CaseInput | null)[],
  attributes: Record<string, AttributeInit> = {},
  more: Partial<GradientCase> = {},
): GradientCase {
  return { op, domain, inputs, attributes, precision: 'float32', ...more };
}

const int32 = (values: number[], shape?: number[]): CaseInput => ({ ...ints(values, shape), dtype: 'int32' });
const fedInt32 = (values: number[], shape?: number[]) => fed(int32(values, shape));
const epsilon = { epsilon: { float: 1e-2 } };

const activations: GradientCase[] = [
  fused('BiasGelu', [active([2, 3, 4]), weight([4])]),
  fused('FastGelu', [active([2, 3, 4]), weight([4])]),
  fused('FastGelu', [active([2, 3, 4])]),
  fused('QuickGelu', [active([2, 3, 4])]),
  { op: 'Swish', attributes: { alpha: { float: 0.7 } }, inputs: [active([2, 3, 4])], opset: 24, precision: 'float32' },
  { op: 'Swish', inputs: [active([2, 3, 4])], opset: 24, precision: 'float32' },
  fused('QuickGelu', [active([2, 3, 4])], { alpha: { float: 0.8 } }),
];

const normalizations: GradientCase[] = [
  { op: 'SimplifiedLayerNormalization', attributes: epsilon, inputs: [active([2, 3, 4]), weight([4])], precision: 'float32' },
  fused('SkipLayerNormalization', [active([2, 3, 4]), active([2, 3, 4]), weight([4]), weight([4]), weight([4])], epsilon),
  fused('SkipLayerNormalization', [active([2, 3, 4]), active([2, 3, 4]), weight([4])], epsilon),
  fused('SkipSimplifiedLayerNormalization', [active([2, 3, 4]), active([2, 3, 4]), weight([4])], epsilon),
  fused('SkipSimplifiedLayerNormalization', [active([2, 3, 4]), active([2, 3, 4]), weight([4]), weight([4])], epsilon),
  { op: 'RMSNormalization', attributes: epsilon, inputs: [active([2, 3, 4]), weight([4])], precision: 'float32' },
  { op: 'RMSNormalization', attributes: { ...epsilon, axis: -2 }, inputs: [active([2, 3, 4], [0]), weight([3, 4])], precision: 'float32' },
  { op: 'GroupNormalization', attributes: { ...epsilon, num_groups: 2 }, inputs: [active([2, 4, 3], [0, 2]), weight([4]), weight([4])], precision: 'float32' },
]; // biome-ignore format: a table

const ids = fedInt32([1, 4, 0, 2, 2, 3], [2, 3]);
const mask = fedInt32([1, 1, 1, 1, 1, 0], [2, 3]);
const embeddings: GradientCase[] = [
  fused(
    'EmbedLayerNormalization',
    [ids, fedInt32([0, 1, 1, 0, 0, 0], [2, 3]), weight([5, 4]), weight([3, 4]), weight([2, 4]), weight([4]), weight([4]), mask],
    epsilon,
    { outputs: 2 },
  ),
  fused('EmbedLayerNormalization', [ids, null, weight([5, 4]), weight([3, 4]), null, weight([4]), weight([4])], epsilon, { outputs: 2 }),
]; // biome-ignore format: inputs in a row

const angles = Array.from({ length: 5 * 4 }, (_, i) => 0.3 * i);
const cos = (columns: number) => floats(angles.slice(0, 5 * columns).map(Math.cos), [5, columns]);
const sin = (columns: number) => floats(angles.slice(0, 5 * columns).map(Math.sin), [5, columns]);
const places = fed(ints([0, 1, 2, 2, 0, 4], [2, 3]));

const rotaries: GradientCase[] = [
  fused('RotaryEmbedding', [active([2, 3, 8]), places, cos(4), sin(4)]),
  fused('RotaryEmbedding', [active([2, 3, 16]), places, cos(4), sin(4)], { num_heads: 2 }),
  fused('RotaryEmbedding', [active([2, 3, 8]), places, cos(4), sin(4)], { interleaved: 1 }),
  fused('RotaryEmbedding', [active([2, 3, 8]), fed(ints([1])), cos(4), sin(4)], {}, { note: 'positions from an offset' }),
  fused('RotaryEmbedding', [active([2, 2, 3, 8], [0, 2]), places, cos(4), sin(4)], {}, { note: '4-D' }),
  fused('RotaryEmbedding', [active([2, 3, 16]), places, cos(2), sin(2)], { num_heads: 2, rotary_embedding_dim: 4 }),
  { op: 'RotaryEmbedding', inputs: [active([2, 2, 3, 8], [0, 2]), cos(4), sin(4), places], precision: 'float32' },
  { op: 'RotaryEmbedding', attributes: { num_heads: 2, interleaved: 1 }, inputs: [active([2, 3, 16]), cos(4), sin(4), places], precision: 'float32' },
  { op: 'RotaryEmbedding', attributes: { rotary_embedding_dim: 4 }, inputs: [active([2, 2, 3, 8], [0, 2]), cos(2), sin(2), places], precision: 'float32' },
]; // biome-ignore format: a table

const projected = (): CaseInput[] => [active([2, 3, 4]), weight([4, 12]), weight([12])];
const heads = { num_heads: 2 };
const cache = (length: number): CaseInput => active([2, 2, length, 2], [0, 2]);

const attentions: GradientCase[] = [
  fused('Attention', projected(), heads),
  fused('Attention', [...projected(), fedInt32([3, 2])], heads, { note: 'lengths' }),
  fused('Attention', [...projected(), mask], heads, { note: 'mask' }),
  fused('Attention', [...projected(), mask], { ...heads, unidirectional: 1, mask_filter_value: { float: -3.4e38 } }),
  fused('Attention', [...projected(), fedInt32([1, 0, 0, 1, 1, 0, 0, 1, 1, 1, 1, 1, 0, 1, 1, 1, 1, 0], [2, 3, 3])], heads),
  fused('Attention', [...projected(), null, active([2, 2, 2, 2, 2], [1, 3])], { ...heads, unidirectional: 1 }, { outputs: 2, note: 'past' }),
  fused('Attention', [...projected(), null, null, active([1, 2, 3, 3], [2, 3])], { ...heads, scale: { float: 0.3 } }, { note: 'bias' }),
  fused('MultiHeadAttention', [active([2, 3, 4]), active([2, 5, 4]), active([2, 5, 4])], heads),
  fused('MultiHeadAttention', [active([2, 3, 4]), active([2, 3, 4]), active([2, 3, 4]), weight([12]), mask], heads),
  fused('MultiHeadAttention', [active([2, 3, 4]), active([2, 3, 4]), active([2, 3, 4])], { ...heads, unidirectional: 1 }),
  fused('MultiHeadAttention', [active([2, 3, 4]), cache(4), cache(4)], heads, { note: 'cross attention' }),
  fused('MultiHeadAttention', [active([2, 3, 4]), active([2, 3, 4]), active([2, 3, 4]), null, null, null, cache(2), cache(2)], heads, { outputs: 3, note: 'past' }),
  ...[{}, { softcap: { float: 2 } }, { local_window_size: 2 }, { scale: { float: 0.3 } }].map((attributes) =>
    fused('GroupQueryAttention', [active([2, 3, 32]), active([2, 3, 16]), active([2, 3, 16]), null, null, fedInt32([2, 2], [2]), int32([3], [])], { num_heads: 4, kv_num_heads: 2, ...attributes }, { outputs: 3, silent: [1, 2] }),
  ),
  fused('GroupQueryAttention', [active([1, 3, 32]), active([1, 3, 16]), active([1, 3, 16]), null, null, fedInt32([2], [1]), int32([3], []), floats(Array.from({ length: 32 }, (_, i) => Math.cos(0.2 * i)), [4, 8]), floats(Array.from({ length: 32 }, (_, i) => Math.sin(0.2 * i)), [4, 8])], { num_heads: 2, kv_num_heads: 1, do_rotary: 1 }, { outputs: 3, silent: [1, 2], note: 'rotary' }),
  fused('GroupQueryAttention', [active([2, 3, 64]), null, null, null, null, fedInt32([2, 2], [2]), int32([3], [])], { num_heads: 4, kv_num_heads: 2 }, { outputs: 3, silent: [1, 2], note: 'packed' }),
  { op: 'Attention', inputs: [cache(3), cache(4), cache(4)], precision: 'float32' },
  { op: 'Attention', attributes: { is_causal: 1, scale: { float: 0.4 }, softcap: { float: 1.5 } }, inputs: [cache(3), cache(3), cache(3)], precision: 'float32' },
  { op: 'Attention', inputs: [cache(3), cache(4), cache(4), active([3, 4])], precision: 'float32', note: 'bias' },
  { op: 'Attention', inputs: [cache(2), cache(3), cache(3), bools([2, 1, 2, 3], [1, 1, 0, 1, 0, 1, 1, 1, 1, 0, 1, 1])], precision: 'float32', note: 'mask' },
  { op: 'Attention', attributes: { q_num_heads: 4, kv_num_heads: 2, is_causal: 1 }, inputs: [active([2, 3, 8]), active([2, 3, 4]), active([2, 3, 4])], precision: 'float32', note: 'grouped' },
  { op: 'Attention', inputs: [cache(2), cache(2), cache(2), null, cache(3), cache(3)], outputs: 3, precision: 'float32', note: 'past' },
]; // biome-ignore format: a table

export const fusedCases: readonly GradientCase[] = [
  activations,
  normalizations,
  embeddings,
  rotaries,
  attentions,
].flat();
