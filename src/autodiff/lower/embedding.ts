/** EmbedLayerNormalization: word, position and segment embeddings, added up and normalized. */
import { floatAttribute, intAttribute } from '../../onnx/ir.ts';
import { castLike } from '../../ops/shared.ts';
import { type LowerContext, type LoweredOp, read } from './lower.ts';

/** 0 … sequence − 1. */
function counted(c: LowerContext, ids: string): string {
  const length = c.op('Squeeze', [c.builder.op('Shape', [ids], { start: 1, end: 2 })]);
  return c.op('Range', [c.builder.constant('int64', 0), length, c.builder.constant('int64', 1)]);
}

/** Tokens per row, int32 [batch]; none without a mask. */
function maskIndex(c: LowerContext, ids: string): string {
  const mask = c.input(7) ?? c.op('Mul', [ids, castLike(c.builder, c.builder.constant('int64', 0), ids)]);
  return c.op('ReduceSum', [c.op('Cast', [mask], { to: 6 }), c.ints([1])], { keepdims: 0 });
}

function embedLayerNorm(c: LowerContext): string[] {
  const ids = c.required(0);
  const words = c.op('Gather', [c.required(2), ids], { axis: 0 });
  let sum = c.op('Add', [words, c.op('Gather', [c.required(3), c.input(8) ?? counted(c, ids)], { axis: 0 })]);
  const segments = c.input(1);
  const segmentTable = c.input(4);
  if (segments !== null && segmentTable !== null) {
    sum = c.op('Add', [sum, c.op('Gather', [segmentTable, segments], { axis: 0 })]);
  }
  const attributes = { axis: -1, epsilon: { float: floatAttribute(c.node, 'epsilon', 1e-12) } };
  const normal = c.builder.op('LayerNormalization', [sum, c.required(5), c.required(6)], attributes);
  // Output 1 is the mask index of old, which counts tokens where mask_index_type is 1 and is zeros where it is 0.
  const index = intAttribute(c.node, 'mask_index_type', 1) === 0 ? '' : maskIndex(c, ids);
  return [normal, index, sum];
}

/** Rows of quantized tables, and a quantized norm. Inputs 8 to 12 are scales, 13 to 17 zero points of 2 to 6. */
function quantizedEmbedLayerNorm(c: LowerContext): string[] {
  const ids = c.required(0);
  const float = (value: string, i: number) =>
    c.op('DequantizeLinear', [value, c.required(i + 6), ...(c.input(i + 11) === null ? [] : [c.required(i + 11)])]);
  const row = (i: number, at: string) => float(c.op('Gather', [c.required(i), at], { axis: 0 }), i);
  const words = c.op('Add', [row(2, ids), row(3, counted(c, ids))]);
  const segments = c.input(1);
  const sum = segments === null || c.input(4) === null ? words : c.op('Add', [words, row(4, segments)]);
  const scales = [5, 6].map((i) => float(c.required(i), i));
  const attributes = { axis: -1, epsilon: { float: floatAttribute(c.node, 'epsilon', 1e-12) } };
  return [c.op('LayerNormalization', [sum, ...scales], attributes), maskIndex(c, ids)];
}

export const embeddingLowerings: LoweredOp[] = [
  {
    name: 'EmbedLayerNormalization',
    domain: 'com.microsoft',
    opsets: [1],
    attributes: { epsilon: read, mask_index_type: read },
    inputs: 9,
    lower: embedLayerNorm,
  },
  {
    name: 'QEmbedLayerNormalization',
    domain: 'com.microsoft',
    opsets: [1],
    attributes: { epsilon: read },
    inputs: 18,
    lower: quantizedEmbedLayerNorm,
  },
];
