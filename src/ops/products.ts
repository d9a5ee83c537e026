/** Slopes of products: the product of all other factors, also where factors are 0 and dividing by them tells nothing. */
import type { GraphBuilder } from '../onnx/builder.ts';
import { castLike } from './shared.ts';

export interface Factors {
  /** The factors with 1 in place of 0. */
  rest: string;
  /** 1 where a factor is 0, else 0. */
  zero: string;
}

export function factorsOf(b: GraphBuilder, x: string): Factors {
  const [zero, one] = [0, 1].map((value) => castLike(b, b.constant('float32', value), x)) as [string, string];
  const hit = b.op('Equal', [x, zero]);
  return { rest: b.op('Where', [hit, one, x]), zero: castLike(b, hit, x) };
}

/** Π of the factors beside each one, from the product of all that are not 0 and the number of those that are. */
export function productOfOthers(b: GraphBuilder, { rest, zero }: Factors, product: string, zeros: string): string {
  const nothing = castLike(b, b.constant('float32', 0), rest);
  const none = b.op('Equal', [b.op('Sub', [zeros, zero]), nothing]);
  return b.op('Where', [none, b.op('Div', [product, rest]), nothing]);
}
