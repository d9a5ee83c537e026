/** Optimizers by name. A new one is one file with its rule and one line in `rules`. */
import { PtunedError } from '../../errors.ts';
import { fits, type Gradients } from '../../prompts/gradients.ts';
import type { Parameters } from '../../prompts/types.ts';
import { adam } from './adam.ts';
import { adamw } from './adamw.ts';
import { createPlaces, type Place, type UpdateConstants } from './memory.ts';

export interface UpdateSettings {
  learningRate: number;
  /** 1 at the first update. */
  step: number;
  beta1: number;
  beta2: number;
  epsilon: number;
  weightDecay: number;
}

/** What an optimizer makes of a weight: `decay` of it is added to the gradient, `keep` of it is left before the step. */
export type UpdateRule = (settings: UpdateSettings) => Pick<UpdateConstants, 'decay' | 'keep'>;

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
   * One update of all parameters; `gradients` has the parameters' names and sizes. The first moves parameters and moments to
   * where it updates them: their arrays are others from then on.
   */
  update(parameters: Parameters, gradients: Gradients, learningRate: number): void;
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
  let places = new Map<string, Place>();
  return {
    state,
    update(parameters, gradients, learningRate) {
      checkSizes(parameters, gradients, state);
      const isInPlace = [...parameters].every(([key, { values }]) => places.get(key)?.p === values);
      if (!isInPlace) places = moveIn(parameters, state);
      state.step++;
      const { step } = state;
      const constants: UpdateConstants = {
        ...rule({ learningRate, step, beta1, beta2, epsilon, weightDecay }),
        fresh1: 1 - beta1,
        beta2,
        fresh2: 1 - beta2,
        step: learningRate / (1 - beta1 ** step),
        correction: 1 / Math.sqrt(1 - beta2 ** step),
        epsilon,
      };
      // Back to front: what the encoder reads first was then written last, and is still in the cache.
      for (const [key, place] of [...places].reverse()) place.update(gradients.get(key)!, constants);
    },
  };
}

/** @throws PtunedError internal naming the parameter */
function checkSizes(parameters: Parameters, gradients: Gradients, state: OptimizerState): void {
  for (const [key, { values }] of parameters) {
    const gradient = gradients.get(key);
    const moments = [state.m.get(key), state.v.get(key)];
    if (
      gradient === undefined ||
      !fits(gradient, values.length) ||
      moments.some((one) => one?.length !== values.length)
    ) {
      throw new PtunedError('internal', `Optimizer: gradient or moments of "${key}" do not fit its parameter.`);
    }
  }
}

function moveIn(parameters: Parameters, state: OptimizerState): Map<string, Place> {
  const list = [...parameters];
  const places = createPlaces(
    list.map(([key, { shape, values }]) => ({ shape, p: values, m: state.m.get(key)!, v: state.v.get(key)! })),
  );
  return new Map(
    list.map(([key, parameter], i) => {
      const place = places[i]!;
      parameter.values = place.p;
      state.m.set(key, place.m);
      state.v.set(key, place.v);
      return [key, place];
    }),
  );
}
