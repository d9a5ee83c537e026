/** Comparisons and logic: values without gradient, of which shape computations need the results. */
import type { Dim } from '../onnx/dim.ts';
import { typeOf } from '../onnx/types.ts';
import { knownEqual } from './arithmetic.ts';
import type { Infer, Op } from './op.ts';
import { broadcasting, knownElements, likeFirst, required } from './shared.ts';

const none = { none: 'yields truth values' };

function comparison(compute: (x: Dim, y: Dim) => boolean | null): Infer {
  return (node, inputs) => {
    const [type] = broadcasting('bool')(node, inputs);
    const value = knownElements(required(node, inputs, 0), required(node, inputs, 1), (x, y) => {
      const known = compute(x, y);
      return known === null ? null : Number(known);
    });
    return [typeOf('bool', type!.shape, value)];
  };
}

function numeric(compute: (x: number, y: number) => boolean): Infer {
  return comparison((x, y) => (typeof x === 'number' && typeof y === 'number' ? compute(x, y) : null));
}

const notInfer: Infer = (node, inputs) => {
  const { shape, value } = required(node, inputs, 0);
  return [
    typeOf(
      'bool',
      shape,
      value?.every((one) => typeof one === 'number') ? value.map((one) => (one === 0 ? 1 : 0)) : null,
    ),
  ];
};

const test: Infer = (node, inputs) => [typeOf('bool', required(node, inputs, 0).shape)];

export const logicOps: Op[] = [
  { name: 'Equal', opsets: [11, 13, 19], infer: comparison(knownEqual), vjp: none },
  { name: 'Less', opsets: [11, 13], infer: numeric((x, y) => x < y), vjp: none },
  { name: 'LessOrEqual', opsets: [12, 16], infer: numeric((x, y) => x <= y), vjp: none },
  { name: 'Greater', opsets: [11, 13], infer: numeric((x, y) => x > y), vjp: none },
  { name: 'GreaterOrEqual', opsets: [12, 16], infer: numeric((x, y) => x >= y), vjp: none },
  { name: 'And', opsets: [11], infer: numeric((x, y) => x !== 0 && y !== 0), vjp: none },
  { name: 'Or', opsets: [11], infer: numeric((x, y) => x !== 0 || y !== 0), vjp: none },
  { name: 'Xor', opsets: [11], infer: numeric((x, y) => (x !== 0) !== (y !== 0)), vjp: none },
  { name: 'Not', opsets: [11], infer: notInfer, vjp: none },
  ...['BitwiseAnd', 'BitwiseOr', 'BitwiseXor'].map(
    (name): Op => ({ name, opsets: [18], infer: broadcasting(), vjp: { none: 'works on integers' } }),
  ),
  { name: 'BitwiseNot', opsets: [18], infer: likeFirst, vjp: { none: 'works on integers' } },
  { name: 'BitShift', opsets: [11], infer: broadcasting(), vjp: { none: 'works on integers' } },
  { name: 'IsNaN', opsets: [11, 13, 20], infer: test, vjp: none },
  { name: 'IsInf', opsets: [11, 20], infer: test, vjp: none },
];
