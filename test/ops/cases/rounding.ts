/** Ops that compute with rounded values: the lowering's results against those of the kernel. */
import type { AttributeInit } from '../../../src/onnx/ir.ts';
import type { CaseInput, GradientCase } from '../gradient-check.ts';
import { active, bools, byte, bytes, fed, fedInt32, floats, fused, int32, signed } from './inputs.ts';

function rounding(
  op: string,
  inputs: (CaseInput | null)[],
  attributes: Record<string, AttributeInit> = {},
  more: Partial<GradientCase> = {},
): GradientCase {
  return { ...fused(op, inputs, attributes, more), rounds: true };
}

/** A matrix of activations with its scale and zero point. */
const x = (shape: number[]) => fed(bytes(shape));
const columns = floats([0.01, 0.02, 0.005], [3]);

const products: GradientCase[] = [
  rounding('DynamicQuantizeMatMul', [active([2, 3, 4]), signed([4, 3]), floats(0.02)]),
  rounding('DynamicQuantizeMatMul', [active([2, 3, 4]), bytes([4, 3]), columns, byte([120, 128, 131]), floats([1, -2, 3])]),
  rounding('MatMulIntegerToFloat', [x([2, 3, 4]), signed([4, 3]), floats(0.03), floats(0.02)]),
  rounding('MatMulIntegerToFloat', [x([2, 3, 4]), bytes([4, 3]), floats(0.03), columns, byte(117), byte([120, 128, 131]), floats([1, -2, 3])]),
  rounding('QGemm', [x([3, 4]), floats(0.03), byte(117), bytes([4, 3]), floats(0.02), byte(128), int32([100, -200, 3], [3])], { alpha: { float: 0.7 } }),
  rounding('QGemm', [x([4, 3]), floats(0.03), byte(117), bytes([3, 4]), columns, byte([120, 128, 131])], { transA: 1, transB: 1 }),
  rounding('QGemm', [x([3, 4]), floats(0.03), byte(117), bytes([4, 3]), floats(0.02), byte(128), null, floats(0.5), byte(90)], { transA: 0, transB: 0, alpha: { float: 1 } }),
  rounding('QLinearMatMul', [x([3, 4]), floats(0.03), byte(117), bytes([4, 3]), floats(0.02), byte(128), floats(0.5), byte(90)], {}, { domain: '' }),
  rounding('QLinearMatMul', [x([2, 3, 4]), floats(0.03), byte(117), bytes([4, 3]), columns, byte([120, 128, 131]), floats(0.5), byte(90)], {}, { domain: '' }),
]; // biome-ignore format: a table

const heads = { num_heads: 2 };
const projected = [x([2, 3, 4]), signed([4, 12]), floats(Array.from({ length: 12 }, (_, i) => 0.3 - 0.1 * i), [12]), floats(0.01), floats(0.02)]; // biome-ignore format: a row
const zero = { ...byte(0), dtype: 'int8' as const };
const past = active([2, 2, 2, 2, 2], [1, 3]);
const attention: GradientCase[] = [
  rounding('QAttention', [...projected, null, byte(117), zero], heads),
  rounding('QAttention', [...projected, fedInt32([3, 2]), byte(117), zero], { ...heads, mask_filter_value: { float: -10000 } }),
  rounding('QAttention', [...projected, fedInt32([1, 1, 1, 1, 1, 0], [2, 3]), byte(117), zero], { ...heads, unidirectional: 1 }),
  rounding('QAttention', [...projected, null, byte(117), zero], { ...heads, scale: { float: 0.3 } }),
  rounding('QAttention', [...projected, null, byte(117), zero, past], { ...heads, unidirectional: 1 }, { outputs: 2, note: 'past' }),
]; // biome-ignore format: a table

const table = (rows: number) => bytes([rows, 4]);
const steps = [0.02, 0.01, 0.03, 0.005, 0.004].map((one) => floats(one));
const points = [128, 120, 131, 100, 127].map((one) => byte(one));
const ids = fedInt32([1, 4, 0, 2, 2, 3], [2, 3]);
const embeddings: GradientCase[] = [
  rounding(
    'QEmbedLayerNormalization',
    [ids, fedInt32([0, 1, 1, 0, 0, 0], [2, 3]), table(5), table(3), table(2), bytes([4]), bytes([4]), fedInt32([1, 1, 1, 1, 1, 0], [2, 3]), ...steps, ...points],
    { epsilon: { float: 1e-2 } },
    { outputs: 2 },
  ),
]; // biome-ignore format: inputs in a row

const [a, b] = [x([2, 3, 4]), x([3, 4])];
const into = [floats(0.5), byte(90)];
const one = (value: CaseInput, step: number, point: number) => [value, floats(step), byte(point)];
const between: GradientCase[] = [
  rounding('QLinearAdd', [...one(a, 0.31, 117), ...one(b, 0.2, 128), ...into]),
  rounding('QLinearMul', [...one(a, 0.11, 117), ...one(b, 0.2, 128), ...into]),
  rounding('QLinearSigmoid', [...one(a, 0.03, 117), floats(1 / 256), byte(0)]),
  rounding('QLinearLeakyRelu', [...one(a, 0.31, 117), ...into], { alpha: { float: 0.3 } }),
  rounding('QLinearSoftmax', [...one(a, 0.03, 117), floats(1 / 256), byte(0)], { axis: -1, opset: 13 }),
  rounding('QLinearSoftmax', [...one(a, 0.03, 117), floats(1 / 256), byte(0)], { axis: 1, opset: 12 }),
  rounding('QLinearConcat', [...into, ...one(a, 0.31, 117), ...one(x([2, 3, 2]), 0.2, 128)], { axis: 2 }),
  rounding('QLinearWhere', [bools([3, 1], [1, 0, 1]), ...one(a, 0.31, 117), ...one(b, 0.2, 128), ...into]),
]; // biome-ignore format: a table

export const roundingCases: readonly GradientCase[] = [products, attention, embeddings, between].flat();
