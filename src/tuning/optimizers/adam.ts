import type { UpdateRule } from './registry.ts';

/**
 * Adam (Kingma & Ba, 2015) as torch.optim.Adam computes it: L2 weight decay is added to the gradient, both moments
 * are bias-corrected, epsilon stands outside the square root of the corrected second moment.
 *
 *   g  = g + wd·p
 *   m += (1 − β1)(g − m)          v = β2·v + (1 − β2)·g²
 *   p -= lr / (1 − β1^t) · m / (√v / √(1 − β2^t) + ε)
 */
export const adam: UpdateRule = (p, g, m, v, { learningRate, step, beta1, beta2, epsilon, weightDecay }) => {
  const fresh1 = 1 - beta1;
  const fresh2 = 1 - beta2;
  const stepSize = learningRate / (1 - beta1 ** step);
  const correction2 = Math.sqrt(1 - beta2 ** step);
  const count = p.length;
  let squares = 0;
  for (let i = 0; i < count; i++) {
    const value = p[i]!;
    const raw = g[i]!;
    const gradient = raw + weightDecay * value;
    squares += raw * raw;
    const first = m[i]! + fresh1 * (gradient - m[i]!);
    const second = beta2 * v[i]! + fresh2 * gradient * gradient;
    m[i] = first;
    v[i] = second;
    p[i] = value - (stepSize * first) / (Math.sqrt(second) / correction2 + epsilon);
  }
  return squares;
};
