/** Choosing the next token: greedy, or sampled with temperature and nucleus. */
import { uniformFloat64 } from 'pure-rand/distribution/uniformFloat64';
import { xoroshiro128plus } from 'pure-rand/generator/xoroshiro128plus';
import { highest, logSoftmax, notNumbers } from './probabilities.ts';

export interface SamplingOptions {
  /** 0 takes the likeliest token. */
  temperature: number;
  /** Only the likeliest tokens whose probabilities reach this sum are considered. */
  topP: number;
  seed: number;
}

/** A function from scores [n] to the chosen index. The same seed and scores give the same choices. */
export function createSampler({ temperature, topP, seed }: SamplingOptions): (scores: Float32Array) => number {
  const random = xoroshiro128plus(seed);
  return (scores) => {
    if (temperature === 0) return likeliest(scores);
    const probabilities = logSoftmax(scores, temperature).map(Math.exp);
    const { indices, total } = nucleus(probabilities, topP);
    const drawn = uniformFloat64(random) * total;
    let sum = 0;
    for (const index of indices) {
      sum += probabilities[index]!;
      if (drawn < sum) return index;
    }
    return indices.at(-1)!;
  };
}

function likeliest(scores: Float32Array): number {
  const index = highest(scores, 1)[0]!;
  if (!Number.isFinite(scores[index]!)) throw notNumbers();
  return index;
}

/**
 * The smallest set of likeliest indices whose probabilities sum to at least `topP`, and that sum; all that are possible where
 * topP is 1. In the order of the indices: in that of the probabilities, rounding would swap tokens that are about equally
 * likely, and with them what a seed draws.
 */
export function nucleus(probabilities: Float32Array, topP: number): { indices: number[]; total: number } {
  // Whatever lies below this bound sums to less than 1 - topP, so it cannot belong to the nucleus and is not sorted.
  const bound = (1 - topP) / probabilities.length;
  const likely: number[] = [];
  for (let i = 0; i < probabilities.length; i++)
    if (probabilities[i]! > 0 && probabilities[i]! >= bound) likely.push(i);
  const indices = topP < 1 ? likeliestOf(likely, probabilities, topP) : likely;
  return { indices, total: indices.reduce((sum, index) => sum + probabilities[index]!, 0) };
}

function likeliestOf(likely: number[], probabilities: Float32Array, topP: number): number[] {
  likely.sort((a, b) => probabilities[b]! - probabilities[a]! || a - b);
  let total = 0;
  let count = 0;
  while (count < likely.length && (count === 0 || total < topP)) total += probabilities[likely[count++]!]!;
  return likely.slice(0, count).sort((a, b) => a - b);
}
