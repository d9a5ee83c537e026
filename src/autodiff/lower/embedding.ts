/** EmbedLayerNormalization: word, position and segment embeddings, added up and normalized. */
import { floatAttribute, intAttribute } from '../../onnx/ir.ts';
import { castLike } from '../../ops/shared.ts';
import { type LowerContext, type LoweredOp, read } from './lower.ts';

/** Positions given, or 0 … sequence − 1. */
function positionIds(c: LowerContext, ids: string): string {
  const given = c.input(8);
  if (given !== null) return given;
  const length = c.op('Squeeze', [c.builder.op('Shape', [ids], { start: 1, end: 2 })]);
  return c.op('Range', [c.builder.constant('int64', 0), length, c.builder.constant('int64', 1)]);
}

/** Tokens per row, int32 [batch]. */
function maskIndex(c: LowerContext, ids: string): string {
  const mask = c.input(7);
  const counted = mask === null ? c.op('Mul', [ids, castLike(c.builder, c.builder.constant('int64', 0), ids)]) : mask;
  return c.op('ReduceSum', [c.op('Cast', [counted], { to: 6 }), c.ints([1])], { keepdims: 0 });
}

function embedLayerNorm(c: LowerContext): string[] {
  const ids = c.required(0);
  const words = c.op('Gather', [c.required(2), ids], { axis: 0 });
  let sum = c.op('Add', [words, c.op('Gather', [c.required(3), positionIds(c, ids)], { axis: 0 })]);
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

export const embeddingLowerings: LoweredOp[] = [
  {
    name: 'EmbedLayerNormalization',
    domain: 'com.microsoft',
    opsets: [1],
    attributes: { epsilon: read, mask_index_type: read },
    inputs: 9,
    lower: embedLayerNorm,
  },
];
