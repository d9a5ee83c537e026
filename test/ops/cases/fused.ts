/** Fused activations, norms, embeddings: their primitives' gradients against finite differences of the fused kernels. */
import type { GradientCase } from '../gradient-check.ts';
import { active, fed, fedInt32, floats, fused, ints, weight } from './inputs.ts';

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
  { op: 'RMSNormalization', attributes: { ...epsilon, stash_type: 1 }, inputs: [active([2, 3, 4]), weight([4])], precision: 'float32' },
  { op: 'SimplifiedLayerNormalization', attributes: { ...epsilon, axis: -1, stash_type: 1 }, inputs: [active([2, 3, 4]), weight([4])], precision: 'float32' },
  fused('SkipLayerNormalization', [active([2, 3, 4]), active([1, 3, 4], [1]), weight([4]), weight([4])], epsilon, { note: 'skip broadcast' }),
  fused('SkipLayerNormalization', [active([2, 3, 4]), active([2, 3, 4]), weight([4]), weight([4]), weight([4])], epsilon, { outputs: 4, silent: [1, 2], note: 'the sum read as well' }),
  fused('SkipSimplifiedLayerNormalization', [active([2, 3, 4]), active([2, 3, 4]), weight([4])], epsilon, { outputs: 4, absent: [1, 2], note: 'the sum read as well' }),
  { op: 'GroupNormalization', attributes: { ...epsilon, num_groups: 2, stash_type: 1 }, inputs: [active([2, 4, 3, 2], [0, 2, 3]), weight([4]), weight([4])], precision: 'float32' },
  { op: 'GroupNormalization', attributes: { ...epsilon, num_groups: 2 }, inputs: [active([2, 4, 3], [0, 2]), weight([2]), weight([2])], precision: 'float32', opset: 18 },
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
  fused('EmbedLayerNormalization', [ids, null, weight([5, 4]), weight([3, 4]), null, weight([4]), weight([4]), mask, fedInt32([2, 1, 0, 0, 1, 2], [2, 3])], { ...epsilon, mask_index_type: 1 }, { outputs: 2, note: 'positions' }),
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

export const fusedCases: readonly GradientCase[] = [activations, normalizations, embeddings, rotaries].flat();
