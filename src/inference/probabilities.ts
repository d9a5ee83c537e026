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

/** Natural logarithm of softmax(scores / temperature). Throws internal when the LM gave something not finite. */
export function logSoftmax(scores: Float32Array, temperature = 1): Float32Array {
  let highest = Number.NEGATIVE_INFINITY;
  for (const score of scores) if (score > highest) highest = score;
  let sum = 0;
  for (const score of scores) sum += Math.exp((score - highest) / temperature);
  if (!Number.isFinite(sum) || sum === 0) throw notNumbers();
  const logSum = Math.log(sum);
  return scores.map((score) => (score - highest) / temperature - logSum);
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
  for (let i = 0; i < values.length; i++) {
    if (heap.length < count) {
      heap.push(i);
      if (heap.length === count) for (let at = count >> 1; at >= 0; at--) sink(at);
    } else if (below(heap[0]!, i)) {
      heap[0] = i;
      sink(0);
    }
  }
  return heap.sort((a, b) => (below(a, b) ? 1 : -1));
}

export function notNumbers(): PtunedError {
  return new PtunedError('internal', 'The LM computed logits that are no numbers.');
}
