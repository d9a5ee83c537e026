/** Optimizers by name. A new one is one file with its rule and one line in `rules`. */
import { PtunedError } from '../../errors.ts';
import type { Parameters } from '../../prompts/types.ts';
import { adam } from './adam.ts';
import { adamw } from './adamw.ts';

export interface UpdateSettings {
  learningRate: number;
  /** 1 at the first update. */
  step: number;
  beta1: number;
  beta2: number;
  epsilon: number;
  weightDecay: number;
}

/**
 * Updates parameter p and its moments m, v in place from the gradient g; all of one length. Returns the sum of g²,
 * which costs nothing beside the square root and the division: so every step's gradient is checked for NaN.
 */
export type UpdateRule = (
  p: Float32Array,
  g: Float32Array,
  m: Float32Array,
  v: Float32Array,
  settings: UpdateSettings,
) => number;

export type OptimizerName = 'adam' | 'adamw';

const rules: Record<OptimizerName, UpdateRule> = { adam, adamw };

/** Everything an optimizer remembers: the number of updates and both moments of every parameter. */
export interface OptimizerState {
  step: number;
  m: Map<string, Float32Array>;
  v: Map<string, Float32Array>;
}

export interface OptimizerOptions {
  weightDecay: number;
  /** PyTorch's defaults: 0.9, 0.999, 1e-8. */
  beta1?: number;
  beta2?: number;
  epsilon?: number;
}

export interface Optimizer {
  readonly state: OptimizerState;
  /**
   * One update of all parameters, in place; `gradients` has the parameters' names and lengths. Returns the L2 norm of
   * all gradients together: NaN or Infinity when any element was.
   */
  update(parameters: Parameters, gradients: ReadonlyMap<string, Float32Array>, learningRate: number): number;
}

/** Moments of zero for every parameter. */
export function initialOptimizerState(parameters: Parameters): OptimizerState {
  const zeros = (): Map<string, Float32Array> =>
    new Map([...parameters].map(([name, { values }]) => [name, new Float32Array(values.length)]));
  return { step: 0, m: zeros(), v: zeros() };
}

/** An optimizer that goes on from `state` (and changes it in place). */
export function createOptimizer(name: OptimizerName, state: OptimizerState, options: OptimizerOptions): Optimizer {
  const rule = rules[name];
  const { weightDecay, beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8 } = options;
  return {
    state,
    update(parameters, gradients, learningRate) {
      state.step++;
      const settings = { learningRate, step: state.step, beta1, beta2, epsilon, weightDecay };
      let squares = 0;
      for (const [key, { values }] of parameters) {
        const g = gradients.get(key);
        const m = state.m.get(key);
        const v = state.v.get(key);
        if (g?.length !== values.length || m?.length !== values.length || v?.length !== values.length) {
          throw new PtunedError('internal', `Optimizer: gradient or moments of "${key}" do not fit its parameter.`);
        }
        squares += rule(values, g, m, v, settings);
      }
      return Math.sqrt(squares);
    },
  };
}
