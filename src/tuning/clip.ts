/** Gradient norm and clipping over all parameters together. */

/** L2 norm over all gradients, accumulated in double precision; NaN or Infinity when any element is. */
export function globalNorm(gradients: ReadonlyMap<string, Float32Array>): number {
  let sum = 0;
  for (const gradient of gradients.values()) sum += sumOfSquares(gradient);
  return Math.sqrt(sum);
}

/**
 * Scales the gradients in place so that their norm is at most `maxNorm`, as torch.nn.utils.clip_grad_norm_ does:
 * by min(1, maxNorm / (norm + 1e-6)). Returns the norm before; gradients that are not finite stay as they are.
 */
export function clipByNorm(gradients: ReadonlyMap<string, Float32Array>, maxNorm: number): number {
  const norm = globalNorm(gradients);
  const scale = maxNorm / (norm + 1e-6);
  if (!(scale < 1) || !Number.isFinite(norm)) return norm;
  for (const gradient of gradients.values()) {
    for (let i = 0; i < gradient.length; i++) gradient[i] = gradient[i]! * scale;
  }
  return norm;
}

// Four running sums: one alone waits for its own last addition at every element.
function sumOfSquares(values: Float32Array): number {
  let a = 0;
  let b = 0;
  let c = 0;
  let d = 0;
  const count = values.length;
  const even = count - (count % 4);
  for (let i = 0; i < even; i += 4) {
    const w = values[i]!;
    const x = values[i + 1]!;
    const y = values[i + 2]!;
    const z = values[i + 3]!;
    a += w * w;
    b += x * x;
    c += y * y;
    d += z * z;
  }
  for (let i = even; i < count; i++) a += values[i]! * values[i]!;
  return a + b + (c + d);
}
