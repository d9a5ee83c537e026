/** How far a rule's gradients are from finite differences, and a lowering's results from those of the fused op. */
import type { Feed } from '../../src/onnx/session.ts';
import type { Difference, Differences } from './differences.ts';
import type { RuleGradients } from './rule-gradients.ts';

/** Of the largest element, or of 1: rounding of the float32 gradient, or of float32 differences. */
export const tolerances = { float64: 1e-5, float32: 3e-4 };

/** A lowering computes what the fused op computes, up to rounding. */
export const outputTolerance = 1e-5;

/** The worst place of a comparison. */
export interface Worst {
  error: number;
  /** Where, and what was found there, in words. */
  what: string;
}

const nothing: Worst = { error: 0, what: '' };

function worse(a: Worst, b: Worst): Worst {
  // A NaN is the worst there is.
  return a.error >= b.error || Number.isNaN(a.error) ? a : b;
}

/** Largest error of a gradient in units of the largest slope (at least 1). An input without a gradient has zeros. */
export function gradientError(found: RuleGradients, expected: Differences): Worst {
  let worst = nothing;
  for (const [name, differences] of expected.gradients) {
    const gradient = found.gradients.get(name);
    const finite = differences.filter(({ value }) => Number.isFinite(value));
    const size = Math.max(1, ...finite.map(({ value }) => Math.abs(value)));
    for (const difference of finite) {
      const value = Number(gradient?.[difference.at] ?? 0);
      const error = distance(value, difference) / size;
      const what = `${name}[${difference.at}] is ${value}, ${difference.value} expected`;
      worst = worse(worst, { error, what });
    }
  }
  return worst;
}

/** At a kink any slope between those to the left and the right will do. */
function distance(value: number, { value: expected, between }: Difference): number {
  if (between === null) return Math.abs(value - expected);
  const [low, high] = between;
  return Number.isNaN(value) ? Number.NaN : Math.max(0, low - value, value - high);
}

/** Largest error of outputs in units of the value (at least 1). @throws Error when shapes differ */
export function outputError(found: Readonly<Record<string, Feed>>, expected: Readonly<Record<string, Feed>>): Worst {
  let worst = nothing;
  for (const [name, { dims, data }] of Object.entries(expected)) {
    const other = found[name]!;
    if (other.dims.join() !== dims.join()) throw new Error(`${name} has the shape [${other.dims}], [${dims}] expected`);
    for (const [k, value] of data.entries()) {
      const [a, b] = [Number(other.data[k]), Number(value)];
      const same = Object.is(a, b) || a === b;
      const error = same ? 0 : Math.abs(a - b) / Math.max(1, Math.abs(b));
      worst = worse(worst, { error, what: `${name}[${k}] is ${a}, ${b} expected` });
    }
  }
  return worst;
}
