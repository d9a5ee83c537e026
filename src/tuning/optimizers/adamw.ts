import type { UpdateRule } from './registry.ts';

/**
 * AdamW (Loshchilov & Hutter, 2019) as torch.optim.AdamW computes it: the decay shrinks the parameter itself and never
 * enters the moments; the rest is Adam.
 *
 *   p  = p · (1 − lr·wd)
 *   m += (1 − β1)(g − m)          v = β2·v + (1 − β2)·g²
 *   p -= lr / (1 − β1^t) · m / (√v / √(1 − β2^t) + ε)
 */
export const adamw: UpdateRule = (p, g, m, v, { learningRate, step, beta1, beta2, epsilon, weightDecay }) => {
  const keep = 1 - learningRate * weightDecay;
  const fresh1 = 1 - beta1;
  const fresh2 = 1 - beta2;
  const stepSize = learningRate / (1 - beta1 ** step);
  const correction2 = Math.sqrt(1 - beta2 ** step);
  const count = p.length;
  let squares = 0;
  for (let i = 0; i < count; i++) {
    const gradient = g[i]!;
    squares += gradient * gradient;
    const first = m[i]! + fresh1 * (gradient - m[i]!);
    const second = beta2 * v[i]! + fresh2 * gradient * gradient;
    m[i] = first;
    v[i] = second;
    p[i] = p[i]! * keep - (stepSize * first) / (Math.sqrt(second) / correction2 + epsilon);
  }
  return squares;
};
