/** Einstein summation. */
import { PtunedError } from '../errors.ts';
import type { Dim } from '../onnx/dim.ts';
import { describeNode, type Node, stringAttribute } from '../onnx/ir.ts';
import { typeOf } from '../onnx/types.ts';
import type { Infer, Op, Vjp, VjpContext } from './op.ts';
import { castLike, required } from './shared.ts';

interface Equation {
  /** Labels of each operand, one letter an axis. */
  operands: string[];
  result: string;
}

const letters = 'abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ';

/** The node's equation with "..." written out for operands of these ranks. */
function parse(node: Node, ranks: readonly number[]): Equation {
  const text = stringAttribute(node, 'equation', '').replaceAll(' ', '');
  const [left = '', right] = text.split('->');
  const terms = left.split(',');
  const spare = [...letters].filter((letter) => !text.includes(letter));
  const extra = terms.map((term, i) => (term.includes('...') ? ranks[i]! - (term.length - 3) : 0));
  const longest = Math.max(0, ...extra);
  if (terms.length !== ranks.length || spare.length < longest || extra.some((count) => count < 0)) {
    throw new PtunedError('damaged_model', `${describeNode(node)}: the equation "${text}" does not fit its inputs.`);
  }
  // Axes under "..." are aligned at their end, as in broadcasting.
  const dots = spare.slice(0, longest).join('');
  const operands = terms.map((term, i) => term.replace('...', dots.slice(longest - extra[i]!)));
  return { operands, result: right === undefined ? implied(terms, dots) : right.replace('...', dots) };
}

/** Without "->": the axes under "...", then the labels that appear once, in alphabetical order. */
function implied(terms: readonly string[], dots: string): string {
  const all = terms.join('').replaceAll('...', '');
  const once = [...new Set(all)].filter((letter) => all.split(letter).length === 2);
  return dots + once.sort().join('');
}

const infer: Infer = (node, inputs) => {
  const types = inputs.map((_, i) => required(node, inputs, i));
  const { dtype } = types[0]!;
  if (types.some((type) => type.shape === null)) return [typeOf(dtype, null)];
  const equation = parse(
    node,
    types.map((type) => type.shape!.length),
  );
  const sizes = new Map<string, Dim>();
  for (const [i, labels] of equation.operands.entries()) {
    for (const [axis, label] of [...labels].entries()) {
      const known = sizes.get(label);
      const dim = types[i]!.shape![axis]!;
      // 1 may be stretched; a number says more than a symbol.
      if (known === undefined || known === 1 || (typeof known !== 'number' && typeof dim === 'number' && dim !== 1))
        sizes.set(label, dim);
    }
  }
  return [
    typeOf(
      dtype,
      [...equation.result].map((label) => sizes.get(label)!),
    ),
  ];
};

/**
 * For operand k: the einsum of dY and the other operands, labelled as operand k. Labels that only operand k has were
 * summed over alone: its gradient is the same all along them. A label twice takes a diagonal, and gives back to it alone.
 */
const vjp: Vjp = (c) => {
  const b = c.builder;
  const names = c.node.inputs;
  const { operands, result } = parse(
    c.node,
    names.map((name) => b.shape(name).length),
  );
  return operands.map((labels, k) => {
    const others = names.filter((_, i) => i !== k);
    const terms = [result, ...operands.filter((_, i) => i !== k)];
    const shared = [...new Set(labels)].filter((label) => terms.some((term) => term.includes(label)));
    const equation = `${terms.join(',')}->${shared.join('')}`;
    const product = b.op('Einsum', [c.gradient(0), ...others], { equation });
    const first = (label: string, axis: number) => labels.indexOf(label) === axis;
    const alone = [...labels].flatMap((label, axis) => (shared.includes(label) && first(label, axis) ? [] : [axis]));
    if (alone.length === 0) return product;
    const placed = b.op('Unsqueeze', [product, b.constant('int64', alone)]);
    const whole = b.op('Expand', [placed, b.op('Shape', [names[k]!])]);
    const again = [...labels].flatMap((label, axis) => (first(label, axis) ? [] : [[labels.indexOf(label), axis]]));
    return again.reduce((value, [one, other]) => onDiagonal(c, value, one!, other!), whole);
  });
};

/** The value where its places along two axes are the same, 0 elsewhere. */
function onDiagonal(c: VjpContext, value: string, one: number, other: number): string {
  const b = c.builder;
  const rank = b.shape(value).length;
  const places = (axis: number) => {
    const size = b.op('Squeeze', [b.op('Shape', [value], { start: axis, end: axis + 1 })]);
    const range = b.op('Range', [b.constant('int64', 0), size, b.constant('int64', 1)]);
    const rest = Array.from({ length: rank }, (_, i) => i).filter((i) => i !== axis);
    return b.op('Unsqueeze', [range, b.constant('int64', rest)]);
  };
  const zero = castLike(b, b.constant('float32', 0), value);
  return b.op('Where', [b.op('Equal', [places(one), places(other)]), value, zero]);
}

export const einsumOps: Op[] = [{ name: 'Einsum', opsets: [12], infer, vjp }];
