/** Inputs for gradient cases, each with its domain: values stay away from kinks, ties and poles. */
import type { AttributeInit } from '../../../src/onnx/ir.ts';
import type { CaseInput, GradientCase } from '../gradient-check.ts';

let state = 1;
/** Uniform in [0, 1), the same sequence at every run (Lehmer generator). */
function random(): number {
  state = (state * 48271) % 0x7fffffff;
  return state / 0x7fffffff;
}

const count = (shape: readonly number[]) => shape.reduce((product, dim) => product * dim, 1);

function variable(shape: number[], value: (i: number) => number): CaseInput {
  const values = Array.from({ length: count(shape) }, (_, i) => Math.fround(value(i)));
  return { kind: 'variable', dtype: 'float32', shape, values };
}

/** Uniform in [low, high]. */
export function uniform(shape: number[], low = -2, high = 2): CaseInput {
  return variable(shape, () => low + (high - low) * random());
}

/** Uniform in ±[low, high]: away from 0. */
export function nonZero(shape: number[], low = 0.3, high = 2): CaseInput {
  return variable(shape, () => (random() < 0.5 ? -1 : 1) * (low + (high - low) * random()));
}

/** In [-2, 2], at least 0.2 away from every kink. */
export function awayFrom(shape: number[], kinks: readonly number[]): CaseInput {
  return variable(shape, () => {
    for (;;) {
      const value = -2 + 4 * random();
      if (kinks.every((kink) => Math.abs(value - kink) > 0.2)) return value;
    }
  });
}

/** Distinct values at least 0.3 apart, shuffled: no ties for extrema. */
export function distinct(shape: number[]): CaseInput {
  const places = Array.from({ length: count(shape) }, (_, i) => i);
  for (let i = places.length - 1; i > 0; i--) {
    const j = Math.floor(random() * (i + 1));
    [places[i], places[j]] = [places[j]!, places[i]!];
  }
  return variable(shape, (i) => 0.3 * (places[i]! - places.length / 2));
}

/** Exactly these values, differentiated. */
export function at(shape: number[], values: number[]): CaseInput {
  return { kind: 'variable', dtype: 'float32', shape, values };
}

/** Integers known before the run; a list is one axis. */
export function ints(values: number | number[], shape?: number[]): CaseInput {
  const list = typeof values === 'number' ? [values] : values;
  return {
    kind: 'constant',
    dtype: 'int64',
    shape: shape ?? (typeof values === 'number' ? [] : [list.length]),
    values: list,
  };
}

/** The same input, known only at run time. */
export function fed(input: CaseInput): CaseInput {
  return { ...input, kind: 'fed' };
}

/** Floats without a gradient, known before the run. */
export function floats(values: number | number[], shape?: number[]): CaseInput {
  return { ...ints(values, shape), dtype: 'float32' };
}

export function bools(shape: number[], values: number[]): CaseInput {
  return { kind: 'fed', dtype: 'bool', shape, values };
}

export function int32(values: number[], shape?: number[]): CaseInput {
  return { ...ints(values, shape), dtype: 'int32' };
}

export function fedInt32(values: number[], shape?: number[]): CaseInput {
  return fed(int32(values, shape));
}

/** Irregular bytes. */
export function bytes(shape: number[]): CaseInput {
  return {
    ...ints(
      Array.from({ length: count(shape) }, (_, i) => (i * 89 + 41) % 256),
      shape,
    ),
    dtype: 'uint8',
  };
}

/** Bytes given one by one. */
export function byte(values: number | number[]): CaseInput {
  return { ...ints(values), dtype: 'uint8' };
}

/** Irregular integers from -128 to 127. */
export function signed(shape: number[]): CaseInput {
  const values = bytes(shape).values.map((one) => one - 128);
  return { ...ints(values, shape), dtype: 'int8' };
}

/** An activation [batch, sequence, …], or with the axes that are symbolic. */
export function active(shape: number[], dynamic = [0, 1]): CaseInput {
  return { ...uniform(shape, -1, 1), dynamic };
}

/** A variable of known shape. */
export function weight(shape: number[]): CaseInput {
  return { ...uniform(shape, -1, 1), dynamic: [] };
}

/** A case of a com.microsoft op, whose kernels are in float32 alone. */
export function fused(
  op: string,
  inputs: (CaseInput | null)[],
  attributes: Record<string, AttributeInit> = {},
  more: Partial<GradientCase> = {},
): GradientCase {
  return { op, domain: 'com.microsoft', inputs, attributes, precision: 'float32', ...more };
}
