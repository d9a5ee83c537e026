/** Seeded random tensors, as PyTorch's initialisers distribute them (not bit for bit PyTorch's numbers). */
import { uniformFloat64 } from 'pure-rand/distribution/uniformFloat64';
import { xoroshiro128plus } from 'pure-rand/generator/xoroshiro128plus';

export interface Random {
  /** Uniform in [-bound, bound). */
  uniform(count: number, bound: number): Float32Array;
  /** Standard normal, by Box and Muller's transform. */
  normal(count: number): Float32Array;
}

export function createRandom(seed: number): Random {
  const generator = xoroshiro128plus(seed);
  const next = () => uniformFloat64(generator);
  return {
    uniform: (count, bound) => Float32Array.from({ length: count }, () => (2 * next() - 1) * bound),
    normal(count) {
      const values = new Float32Array(count);
      for (let i = 0; i < count; i += 2) {
        // 1 - u lies in (0, 1], so the logarithm is finite.
        const radius = Math.sqrt(-2 * Math.log(1 - next()));
        const angle = 2 * Math.PI * next();
        values[i] = radius * Math.cos(angle);
        if (i + 1 < count) values[i + 1] = radius * Math.sin(angle);
      }
      return values;
    },
  };
}
