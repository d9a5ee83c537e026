import type { UpdateRule } from './registry.ts';

/**
 * Adam (Kingma & Ba, 2015) as torch.optim.Adam computes it: L2 weight decay is added to the gradient, both moments
 * are bias-corrected, epsilon stands outside the square root of the corrected second moment.
 *
 *   g  = g + wd·p
 *   m += (1 − β1)(g − m)          v = β2·v + (1 − β2)·g²
 *   p -= lr / (1 − β1^t) · m / (√v / √(1 − β2^t) + ε)
 */
export const adam: UpdateRule = ({ weightDecay }) => ({ decay: weightDecay, keep: 1 });
