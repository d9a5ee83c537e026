/** Attention in its fused forms, every attribute and optional input of them. Batch and sequence are symbolic. */
import type { AttributeInit } from '../../../src/onnx/ir.ts';
import type { CaseInput, GradientCase } from '../gradient-check.ts';
import { active, bools, fed, fedInt32, floats, fused, int32, ints, weight } from './inputs.ts';

const mask = fedInt32([1, 1, 1, 1, 1, 0], [2, 3]);
const projected = (): CaseInput[] => [active([2, 3, 4]), weight([4, 12]), weight([12])];
const heads = { num_heads: 2 };
const cache = (length: number): CaseInput => active([2, 2, length, 2], [0, 2]);
const long = { ...heads, unidirectional: 1, mask_filter_value: { float: -3.4e38 } };
const square = fedInt32([1, 0, 0, 1, 1, 0, 0, 1, 1, 1, 1, 1, 0, 1, 1, 1, 1, 0], [2, 3, 3]);
const past = active([2, 2, 2, 2, 2], [1, 3]);

const attention: GradientCase[] = [
  fused('Attention', projected(), heads),
  fused('Attention', projected().slice(0, 2).concat(weight([12])), { ...heads, do_rotary: 0, rotary_embedding_dim: 0, past_present_share_buffer: 0 }),
  fused('Attention', [active([2, 3, 4]), weight([4, 10]), weight([10])], { ...heads, qkv_hidden_sizes: [4, 4, 2] }),
  fused('Attention', [...projected(), fedInt32([3, 2])], heads, { note: 'lengths' }),
  fused('Attention', [...projected(), fedInt32([3, 2, 1, 0])], heads, { note: 'lengths and first keys' }),
  fused('Attention', [...projected(), mask], heads, { note: 'mask' }),
  fused('Attention', [...projected(), mask], long),
  fused('Attention', [...projected(), square], heads),
  fused('Attention', [...projected(), fedInt32([3, 2])], { ...heads, unidirectional: 1 }, { note: 'lengths' }),
  fused('Attention', [...projected(), fedInt32([3, 2, 1, 0])], { ...heads, unidirectional: 1 }, { note: 'lengths and first keys' }),
  fused('Attention', [...projected(), square], { ...heads, unidirectional: 1 }),
  fused('Attention', [...projected(), fedInt32([1, 1, 1, 1, 1, 0, 1, 1, 1, 1], [2, 5]), past], { ...heads, unidirectional: 1 }, { outputs: 2, note: 'past and mask' }),
  fused('Attention', [...projected(), null, past], { ...heads, unidirectional: 1 }, { outputs: 2, note: 'past' }),
  fused('Attention', [...projected(), fedInt32([1, 1, 1, 1, 1, 0, 1, 1, 1, 1], [2, 5]), past], heads, { outputs: 2, note: 'past and mask' }),
  fused('Attention', [...projected(), null, null, active([1, 2, 3, 3], [2, 3])], { ...heads, scale: { float: 0.3 } }, { note: 'bias' }),
]; // biome-ignore format: a table

const qkv = (length: number): CaseInput[] => [active([2, 3, 4]), active([2, length, 4]), active([2, length, 4])];
const multiHead: GradientCase[] = [
  fused('MultiHeadAttention', qkv(5), heads),
  fused('MultiHeadAttention', [active([2, 3, 4]), active([2, 5, 4]), active([2, 5, 2])], { ...heads, scale: { float: 0.3 } }, { note: 'narrow values' }),
  fused('MultiHeadAttention', [...qkv(3), weight([12]), mask], heads),
  fused('MultiHeadAttention', [...qkv(3), null, fedInt32([2, 3])], heads, { note: 'lengths' }),
  fused('MultiHeadAttention', [...qkv(3), null, square], { ...heads, mask_filter_value: { float: -50 } }),
  fused('MultiHeadAttention', [...qkv(3), null, null, active([1, 2, 3, 3], [2, 3])], heads, { note: 'bias' }),
  fused('MultiHeadAttention', [...qkv(3), null, null, active([2, 1, 3, 3], [0, 2, 3])], heads, { note: 'bias by row' }),
  fused('MultiHeadAttention', qkv(3), { ...heads, unidirectional: 1 }),
  fused('MultiHeadAttention', [active([2, 3, 4]), cache(4), cache(4)], heads, { note: 'cross attention' }),
  fused('MultiHeadAttention', [...qkv(3), null, null, null, cache(2), cache(2)], heads, { outputs: 3, note: 'past' }),
  fused('MultiHeadAttention', [...qkv(3), weight([12]), fedInt32([1, 1, 1, 1, 1, 0, 1, 1, 1, 1], [2, 5]), null, cache(2), cache(2)], heads, { outputs: 3, note: 'past, bias and mask' }),
  fused('MultiHeadAttention', [...qkv(3), null, null, active([2, 2, 3, 3], [0, 2, 3])], { ...heads, unidirectional: 1 }, { note: 'bias by head' }),
  fused('MultiHeadAttention', [...qkv(3), null, null, null, cache(2), cache(2)], { ...heads, unidirectional: 1 }, { outputs: 3, note: 'past' }),
]; // biome-ignore format: a table

const turn = (f: (x: number) => number, columns: number) =>
  floats(Array.from({ length: 8 * columns }, (_, i) => f(0.2 * i)), [8, columns]); // biome-ignore format: one line
const lengths = [fedInt32([2, 2], [2]), int32([3], [])];
const grouped = (): CaseInput[] => [active([2, 3, 32]), active([2, 3, 16]), active([2, 3, 16])];
const counts = { num_heads: 4, kv_num_heads: 2 };
const noPast = [null, null];

function groupQuery(
  inputs: (CaseInput | null)[],
  attributes: Record<string, AttributeInit> = {},
  note?: string,
  silent: number[] = [1, 2],
): GradientCase {
  const more = { outputs: 3, silent, ...(note === undefined ? {} : { note }) };
  return fused('GroupQueryAttention', inputs, { ...counts, ...attributes }, more);
}

/** The kernel reads only where the first row starts. */
const places = fed(ints([2, 3, 4, 2, 3, 4], [2, 3]));
const broad = [
  active([1, 2, 64]),
  active([1, 2, 32]),
  active([1, 2, 32]),
  null,
  null,
  fedInt32([1], [1]),
  int32([2], []),
];
const rotary = [turn(Math.cos, 8), turn(Math.sin, 8)];
const wide = (batch: number): CaseInput[] => [active([batch, 3, 32]), active([batch, 3, 16]), active([batch, 3, 16])];
const wideCounts = { num_heads: 2, kv_num_heads: 1, do_rotary: 1 };
const keys = (heads: number, size: number): CaseInput => active([1, heads, 2, size], [2]);
const single = [fedInt32([4], [1]), int32([5], [])];
const groupQueries: GradientCase[] = [
  ...[{}, { softcap: { float: 2 } }, { local_window_size: 2 }, { scale: { float: 0.3 } }, { smooth_softmax: 1 }].map(
    (attributes) => groupQuery([...grouped(), ...noPast, ...lengths], attributes),
  ),
  groupQuery([active([2, 3, 64]), null, null, ...noPast, ...lengths], {}, 'packed'),
  groupQuery([active([2, 3, 64]), null, null, ...noPast, ...lengths, ...rotary], wideCounts, 'packed, rotary'),
  groupQuery([...wide(2), ...noPast, ...lengths, ...rotary], wideCounts),
  groupQuery([...wide(2), ...noPast, ...lengths, ...rotary], { ...wideCounts, rotary_interleaved: 1 }),
  groupQuery([...broad, ...rotary], wideCounts, 'part of a head'),
  groupQuery([...wide(2), ...noPast, ...lengths, ...rotary, places], wideCounts, 'positions'),
  groupQuery([...grouped(), ...noPast, ...lengths, null, null, null, active([2, 4, 3, 3], [0, 2, 3])], {}, 'bias'),
  groupQuery([...grouped(), ...noPast, ...lengths, null, null, null, active([1, 1, 3, 3], [2, 3])], { softcap: { float: 2 } }, 'bias for all'),
  groupQuery([...grouped(), ...noPast, ...lengths, null, null, null, null, weight([4])], {}, 'attention sinks'),
  groupQuery([...grouped().map((one) => halved(one)), keys(2, 8), keys(2, 8), ...single], { do_rotary: 0 }, 'past', []),
  groupQuery([...wide(1), keys(1, 16), keys(1, 16), ...single, ...rotary], { ...wideCounts, local_window_size: 3 }, 'past, rotary', []),
]; // biome-ignore format: a table

/** The first row alone. */
function halved(one: CaseInput): CaseInput {
  return { ...one, shape: [1, ...one.shape.slice(1)], values: one.values.slice(0, one.values.length / 2) };
}

const onnx = (inputs: (CaseInput | null)[], attributes: Record<string, AttributeInit> = {}, more: Partial<GradientCase> = {}): GradientCase =>
  ({ op: 'Attention', inputs, attributes, precision: 'float32', ...more }); // biome-ignore format: short

const truths = bools([2, 1, 2, 3], [1, 1, 0, 1, 0, 1, 1, 1, 1, 0, 1, 1]);
const blind = bools([3, 4], [1, 1, 0, 1, 0, 0, 0, 0, 1, 0, 1, 1]);
const scores = [0, 1, 2, 3].map((mode) =>
  onnx([cache(2), cache(3), cache(3), active([2, 3])], { qk_matmul_output_mode: mode, softcap: { float: 1.5 } }, { outputs: 4, silent: [1, 2] }),
); // biome-ignore format: short
const onnxCases: GradientCase[] = [
  onnx([cache(3), cache(4), cache(4)]),
  onnx([cache(3), cache(4), cache(4)], { softmax_precision: 1 }),
  onnx([cache(3), cache(3), cache(3)], { is_causal: 1, scale: { float: 0.4 }, softcap: { float: 1.5 } }),
  onnx([cache(3), cache(4), cache(4), active([3, 4])], {}, { note: 'bias' }),
  onnx([cache(3), cache(4), cache(4), active([3, 4])], { softcap: { float: 1.5 } }, { note: 'bias' }),
  onnx([cache(2), cache(3), cache(3), truths], {}, { note: 'mask' }),
  onnx([cache(3), cache(4), cache(4), blind], {}, { note: 'a query that sees no key' }),
  onnx([cache(3), cache(4), cache(4), blind], { is_causal: 1 }, { note: 'queries that see no key' }),
  onnx([active([2, 3, 8]), active([2, 3, 4]), active([2, 3, 4])], { q_num_heads: 4, kv_num_heads: 2, is_causal: 1 }, { note: 'grouped' }),
  onnx([active([2, 4, 3, 2], [0, 2]), cache(3), cache(3)], {}, { note: 'grouped' }),
  onnx([cache(2), cache(2), cache(2), null, cache(3), cache(3)], {}, { outputs: 3, note: 'past' }),
  onnx([cache(2), cache(2), cache(2), null, cache(3), cache(3)], { is_causal: 1 }, { outputs: 3, note: 'past' }),
  onnx([cache(3), cache(4), cache(4), null, null, null, fed(ints([2, 4]))], {}, { note: 'filled part of a cache', opset: 24 }),
  onnx([cache(2), cache(4), cache(4), active([2, 4]), null, null, fed(ints([3, 4]))], { is_causal: 1 }, { note: 'filled part of a cache', opset: 24 }),
  onnx([cache(3), cache(4), cache(4), null, null, null, fed(ints([2, 3]))], { is_causal: 1 }, { note: 'more queries than keys', opset: 24 }),
  ...scores,
]; // biome-ignore format: a table

export const attentionCases: readonly GradientCase[] = [attention, multiHead, groupQueries, onnxCases].flat();
