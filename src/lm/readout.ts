/** From logits at the targets to candidate scores, loss and rank. */
import type { GraphBuilder } from '../onnx/builder.ts';
import type { Candidates } from '../tasks/types.ts';
import { feeds } from './feeds.ts';
import { pickLogits } from './head.ts';

/**
 * Scores of the candidates [batch, 1, count] from logits [batch, 1, V]: the weighted sum of each candidate's tokens.
 * When the candidates are the vocabulary in order, the logits are the scores.
 */
export function candidateScores(builder: GraphBuilder, logits: string, candidates: Candidates): string {
  const plain = builder.type(logits).dtype === 'float32' ? logits : builder.op('Cast', [logits], { to: 1 });
  if (isWholeVocabulary(candidates, builder.shape(logits).at(-1))) return plain;
  const ids = builder.initializer('candidate_ids', {
    dtype: 'int32',
    dims: [candidates.ids.length],
    data: bytesOf(candidates.ids),
  });
  const picked = pickLogits(builder, plain, ids);
  if (candidates.width === 1 && candidates.weights.every((weight) => weight === 1)) return picked;
  const shaped = builder.op('Reshape', [
    picked,
    builder.constant('int64', [-1, 1, candidates.count, candidates.width]),
  ]);
  const weights = builder.initializer('candidate_weights', {
    dtype: 'float32',
    dims: [candidates.count, candidates.width],
    data: bytesOf(candidates.weights),
  });
  return builder.op('ReduceSum', [builder.op('Mul', [shaped, weights]), builder.constant('int64', [3])], {
    keepdims: 0,
  });
}

function isWholeVocabulary(candidates: Candidates, size: unknown): boolean {
  return candidates.width === 1 && candidates.count === size && candidates.ids.every((id, i) => id === i);
}

function bytesOf(view: ArrayBufferView): Uint8Array {
  return new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
}

/** Cross-entropy of each row [batch, 1, 1] against the labels feed. */
export function crossEntropy(builder: GraphBuilder, scores: string): string {
  const labels = builder.op('Unsqueeze', [feeds.labels, builder.constant('int64', [-1])]);
  const logProbability = builder.op('LogSoftmax', [scores], { axis: -1 });
  return builder.op('Neg', [builder.op('GatherElements', [logProbability, labels], { axis: 2 })]);
}

/** Candidates that score at least as high as the right one, itself not counted [batch, 1]: 0 is a hit, ties count against it. */
export function rankOfLabel(builder: GraphBuilder, scores: string): string {
  const labels = builder.op('Unsqueeze', [feeds.labels, builder.constant('int64', [-1])]);
  const right = builder.op('GatherElements', [scores, labels], { axis: 2 });
  const above = builder.op('Cast', [builder.op('GreaterOrEqual', [scores, right])], { to: 6 });
  const count = builder.op('ReduceSum', [above, builder.constant('int64', [2])], { keepdims: 0 });
  return builder.op('Sub', [count, builder.constant('int32', 1)]);
}
