/**
 * Gradients of a prompt encoder's parameters. A weight [rows, columns] that n pseudo tokens pass through has a gradient of
 * rank n at most: it is kept as the outer products it is a sum of, a hundred times smaller than the weight.
 */

/** leftᵀ·right: left [terms, rows], right [terms, columns]. */
export interface OuterProducts {
  terms: number;
  left: Float32Array;
  right: Float32Array;
}

export type Gradient = Float32Array | OuterProducts;
export type Gradients = ReadonlyMap<string, Gradient>;

/** More outer products than this cost more than the weight's own memory traffic: the gradient is whole instead. */
export const mostTerms = 24;

/** Whether a gradient is of a parameter of so many elements. */
export function fits(gradient: Gradient, count: number): boolean {
  if (gradient instanceof Float32Array) return gradient.length === count;
  const { terms, left, right } = gradient;
  return (left.length / terms) * (right.length / terms) === count;
}

/** All elements of a gradient. */
export function wholeGradient(gradient: Gradient): Float32Array {
  if (gradient instanceof Float32Array) return gradient;
  const { terms, left, right } = gradient;
  const [rows, columns] = [left.length / terms, right.length / terms];
  const whole = new Float32Array(rows * columns);
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      let sum = 0;
      for (let term = 0; term < terms; term++) sum += left[term * rows + row]! * right[term * columns + column]!;
      whole[row * columns + column] = sum;
    }
  }
  return whole;
}

/**
 * Sum of all squares, in double precision; NaN or Infinity when any element is.
 * ‖Σ aₜbₜᵀ‖² = Σₜᵤ (aₜ·aᵤ)(bₜ·bᵤ): the elements themselves need not be computed.
 */
export function squaredNorm(gradient: Gradient): number {
  if (gradient instanceof Float32Array) return dot(gradient, gradient);
  const { terms, left, right } = gradient;
  const row = (values: Float32Array, term: number) => {
    const width = values.length / terms;
    return values.subarray(term * width, (term + 1) * width);
  };
  let sum = 0;
  for (let t = 0; t < terms; t++) {
    for (let u = 0; u <= t; u++) {
      const product = dot(row(left, t), row(left, u)) * dot(row(right, t), row(right, u));
      sum += t === u ? product : 2 * product;
    }
  }
  // Rounding may leave a sum that cancels out a little below zero.
  return sum < 0 ? 0 : sum;
}

/** Multiplies a gradient by a number, in place. */
export function scaleGradient(gradient: Gradient, factor: number): void {
  const values = gradient instanceof Float32Array ? gradient : gradient.left;
  for (let i = 0; i < values.length; i++) values[i] = values[i]! * factor;
}

// Four running sums: one alone waits for its own last addition at every element.
function dot(x: Float32Array, y: Float32Array): number {
  let [a, b, c, d] = [0, 0, 0, 0];
  const count = x.length;
  const even = count - (count % 4);
  for (let i = 0; i < even; i += 4) {
    a += x[i]! * y[i]!;
    b += x[i + 1]! * y[i + 1]!;
    c += x[i + 2]! * y[i + 2]!;
    d += x[i + 3]! * y[i + 3]!;
  }
  for (let i = even; i < count; i++) a += x[i]! * y[i]!;
  return a + b + (c + d);
}
