/** From logits to probabilities of a task's candidates and of tokens. */
import { PtunedError } from '../errors.ts';
import type { Candidates } from '../tasks/types.ts';

/** Score of each candidate [count]: sum over k of weights[l, k] · logits[ids[l, k]]. */
export function candidateScores(logits: Float32Array, { count, width, ids, weights }: Candidates): Float32Array {
  const scores = new Float32Array(count);
  for (let candidate = 0; candidate < count; candidate++) {
    let score = 0;
    for (let k = candidate * width; k < (candidate + 1) * width; k++) score += weights[k]! * logits[ids[k]!]!;
    scores[candidate] = score;
  }
  return scores;
}

/** Natural logarithm of the sum of exp(scores / temperature). Throws internal when the LM gave something not finite. */
export function logSumExp(scores: Float32Array, temperature = 1): number {
  let highest = Number.NEGATIVE_INFINITY;
  for (let i = 0; i < scores.length; i++) if (scores[i]! > highest) highest = scores[i]!;
  let sum = 0;
  for (let i = 0; i < scores.length; i++) sum += Math.exp((scores[i]! - highest) / temperature);
  if (!Number.isFinite(sum) || sum === 0) throw notNumbers();
  return highest / temperature + Math.log(sum);
}

/** Natural logarithm of softmax(scores / temperature). Throws as {@link logSumExp}. */
export function logSoftmax(scores: Float32Array, temperature = 1): Float32Array {
  const all = logSumExp(scores, temperature);
  const result = new Float32Array(scores.length);
  for (let i = 0; i < scores.length; i++) result[i] = scores[i]! / temperature - all;
  return result;
}

/** Indices of the `count` highest values, highest first; of equal ones the lower index first. O(n · log count). */
export function highest(values: Float32Array, count: number): number[] {
  // A binary heap with the least of the best on top.
  const heap: number[] = [];
  const below = (a: number, b: number) => values[a]! < values[b]! || (values[a] === values[b] && a > b);
  const sink = (from: number) => {
    for (let at = from; ; ) {
      let least = at;
      for (const child of [2 * at + 1, 2 * at + 2]) {
        if (child < heap.length && below(heap[child]!, heap[least]!)) least = child;
      }
      if (least === at) return;
      [heap[at], heap[least]] = [heap[least]!, heap[at]!];
      at = least;
    }
  };
  let i = 0;
  for (; i < Math.min(count, values.length); i++) heap.push(i);
  for (let at = heap.length >> 1; at >= 0; at--) sink(at);
  // Later indices lose against equal values, so that values alone decide.
  for (let least = values[heap[0]!]!; i < values.length; i++) {
    if (!(values[i]! > least)) continue;
    heap[0] = i;
    sink(0);
    least = values[heap[0]!]!;
  }
  return heap.sort((a, b) => (below(a, b) ? 1 : -1));
}

export function notNumbers(): PtunedError {
  return new PtunedError('internal', 'The LM computed logits that are no numbers.');
}
