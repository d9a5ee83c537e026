import type { UpdateRule } from './registry.ts';

/**
 * AdamW (Loshchilov & Hutter, 2019) as torch.optim.AdamW computes it: the decay shrinks the parameter itself and never
 * enters the moments; the rest is Adam.
 *
 *   p  = p · (1 − lr·wd)
 *   m += (1 − β1)(g − m)          v = β2·v + (1 − β2)·g²
 *   p -= lr / (1 − β1^t) · m / (√v / √(1 − β2^t) + ε)
 */
export const adamw: UpdateRule = ({ learningRate, weightDecay }) => ({
  decay: 0,
  keep: 1 - learningRate * weightDecay,
});
