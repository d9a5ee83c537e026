/** Ops that put elements somewhere: assigned, or combined with what lies there already. */
import { intAttribute, stringAttribute } from '../onnx/ir.ts';
import type { Op, Vjp, VjpContext } from './op.ts';
import { addAt, zerosLike } from './places.ts';
import { factorsOf, productOfOthers } from './products.ts';
import { castLike, likeFirst, unsupported } from './shared.ts';

type ScatterName = 'ScatterND' | 'ScatterElements';

/** What a scatter does with other values at the same places, and its counterpart, which looks the places up. */
interface Places {
  pick(value: string): string;
  add(data: string, updates: string): string;
  put(data: string, updates: string, reduction: string): string;
}

function placesOf(c: VjpContext, op: ScatterName): Places {
  const b = c.builder;
  const axis: Record<string, number> = op === 'ScatterND' ? {} : { axis: intAttribute(c.node, 'axis', 0) };
  return {
    pick: (value) => b.op(op === 'ScatterND' ? 'GatherND' : 'GatherElements', [value, c.input(1)], axis),
    add: (data, updates) => addAt(b, op, data, c.input(1), updates, axis),
    put: (data, updates, reduction) => b.op(op, [data, c.input(1), updates], { ...axis, reduction }),
  };
}

/** Gradients of data and updates. */
type ScatterRule = (c: VjpContext, places: Places) => [string, string];

/** The overwritten places of the data get no gradient. */
const assigned: ScatterRule = (c, { pick, put }) => [
  put(c.gradient(0), zerosLike(c, c.input(2)), 'none'),
  pick(c.gradient(0)),
];

const added: ScatterRule = (c, { pick }) => [c.gradient(0), pick(c.gradient(0))];

/** Each factor's slope is the product of the others that went to its place. */
const multiplied: ScatterRule = (c, { pick, put, add }) => {
  const b = c.builder;
  const [data, updates] = [factorsOf(b, c.input(0)), factorsOf(b, c.input(2))];
  const product = put(data.rest, updates.rest, 'mul');
  const zeros = add(data.zero, updates.zero);
  const wrtData = b.op('Mul', [c.gradient(0), productOfOthers(b, data, product, zeros)]);
  const slopes = productOfOthers(b, updates, pick(product), pick(zeros));
  return [wrtData, b.op('Mul', [pick(c.gradient(0)), slopes])];
};

/** Equal shares among those that reach the extremum of their place. */
const extreme: ScatterRule = (c, { pick, add }) => {
  const b = c.builder;
  const hits = (value: string, result: string) => castLike(b, b.op('Equal', [value, result]), value);
  const [data, updates] = [hits(c.input(0), c.output(0)), hits(c.input(2), pick(c.output(0)))];
  const count = add(data, updates);
  // A place that nothing reaches does not exist: what is there is the data's or an update's.
  const share = b.op('Div', [c.gradient(0), count]);
  return [b.op('Mul', [data, share]), b.op('Mul', [updates, pick(share)])];
};

const rules: Readonly<Record<string, ScatterRule>> = {
  none: assigned,
  add: added,
  mul: multiplied,
  max: extreme,
  min: extreme,
};

function scatterVjp(op: ScatterName): Vjp {
  return (c) => {
    const reduction = stringAttribute(c.node, 'reduction', 'none');
    const rule = rules[reduction];
    if (rule === undefined)
      throw unsupported(c.node, `has reduction ${reduction}; ${Object.keys(rules).join(', ')} have a gradient rule`);
    const [data, updates] = rule(c, placesOf(c, op));
    return [data, null, updates];
  };
}

export const scatterOps: Op[] = [
  { name: 'ScatterND', opsets: [11, 13, 16, 18], infer: likeFirst, vjp: scatterVjp('ScatterND') },
  { name: 'ScatterElements', opsets: [11, 13, 16, 18], infer: likeFirst, vjp: scatterVjp('ScatterElements') },
];
