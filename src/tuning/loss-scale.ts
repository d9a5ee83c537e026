/**
 * The scale of a loss whose gradient an LM computes in float16 (Micikevicius et al., arXiv 1710.03740): small gradients would
 * become 0 there. The gradient that comes back is float32 and divided by the scale again; one that is not finite went
 * over float16's largest number, so the scale is halved and the step left out. After many good steps it is doubled.
 */
export interface LossScale {
  scale: number;
  /** Good steps since the scale last changed. */
  good: number;
}

const first = 2 ** 15;
const largest = 2 ** 24;
const goodSteps = 2000;

export function startLossScale(): LossScale {
  return { scale: first, good: 0 };
}

/** What each row of a batch counts for in the scaled gradient of the mean loss. */
export function scaledWeights({ scale }: LossScale, rows: number): Float32Array {
  return new Float32Array(rows).fill(scale / rows);
}

/**
 * Takes the scale out of `gradient`, in place, and moves the scale on. False where the step has to be left out; at scale 1
 * a gradient that is not finite is the run's own, and stays as it is.
 */
export function unscale(state: LossScale, gradient: Float32Array): boolean {
  const { scale } = state;
  if (!gradient.every(Number.isFinite)) {
    if (scale === 1) return true;
    Object.assign(state, { scale: scale / 2, good: 0 });
    return false;
  }
  for (let i = 0; i < gradient.length; i++) gradient[i] = gradient[i]! / scale;
  const grows = state.good + 1 >= goodSteps && scale < largest;
  Object.assign(state, grows ? { scale: scale * 2, good: 0 } : { scale, good: state.good + 1 });
  return true;
}
