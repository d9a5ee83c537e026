/** Gradient norm and clipping over all parameters together. */
import { type Gradients, scaleGradient, squaredNorm } from '../prompts/gradients.ts';

/** L2 norm over all gradients, accumulated in double precision; NaN or Infinity when any element is. */
export function globalNorm(gradients: Gradients): number {
  let sum = 0;
  for (const gradient of gradients.values()) sum += squaredNorm(gradient);
  return Math.sqrt(sum);
}

/**
 * Scales the gradients in place so that their norm is at most `maxNorm`, as torch.nn.utils.clip_grad_norm_ does:
 * by min(1, maxNorm / (norm + 1e-6)). Returns the norm before; gradients that are not finite stay as they are.
 */
export function clipByNorm(gradients: Gradients, maxNorm: number): number {
  const norm = globalNorm(gradients);
  const scale = maxNorm / (norm + 1e-6);
  if (!(scale < 1) || !Number.isFinite(norm)) return norm;
  for (const gradient of gradients.values()) scaleGradient(gradient, scale);
  return norm;
}
