/**
 * Exporters guard rows whose keys are all masked: softmax of nothing but −∞ is NaN, and Where(IsNaN(p), 0, p) makes it 0. That
 * looks at every weight of every head, forward and backward. The mask alone tells which rows these are.
 */
import type { GraphBuilder } from '../../onnx/builder.ts';
import { attributesOf, intAttribute } from '../../onnx/ir.ts';
import type { Pattern, View } from './view.ts';

/** Beside it every score is lost in rounding, as beside −∞; added to a score it stays finite. */
const floor = -1e30;

/** What queries that see no key yield: zeros, as exporters have it, or anything finite where nothing depends on them. */
export type BlindRows = 'zero' | 'any';

/**
 * Where(IsNaN(softmax(s + mask)), 0, …)·v becomes softmax(s + max(mask, floor))·v, times 0 in rows that see no key where
 * these must be zero. Numbers that are not finite for another reason are no longer hidden by the guard.
 */
export function nanGuard(blindRows: BlindRows): Pattern {
  /** By mask: all layers have the same. */
  const made = new Map<string, { floored: string; sees: string }>();
  return (view, node) => {
    const found = node.op === 'MatMul' ? guarded(view, node.inputs[0]!) : null;
    if (found === null) return null;
    const { builder } = view;
    const { mask, scores } = found;
    const { floored, sees } = made.get(mask) ?? prepare(builder, mask);
    made.set(mask, { floored, sees });
    const weights = builder.op('Softmax', [builder.op('Add', [scores, floored])], { axis: -1 });
    if (blindRows === 'any') return { ...node, inputs: [weights, node.inputs[1]!] };
    const product = builder.op('MatMul', [weights, node.inputs[1]!]);
    return { ...node, op: 'Mul', inputs: [product, sees], attributes: attributesOf({}) };
  };
}

function prepare(builder: GraphBuilder, mask: string): { floored: string; sees: string } {
  const floored = builder.op('Max', [mask, builder.constant('float32', floor)]);
  const best = builder.op('ReduceMax', [mask, builder.constant('int64', [-1])], { keepdims: 1 });
  const lowest = builder.constant('float32', Number.NEGATIVE_INFINITY);
  return { floored, sees: builder.op('Cast', [builder.op('Greater', [best, lowest])], { to: 1 }) };
}

/** Scores and mask of guarded attention weights that one product reads and nothing else. */
function guarded(view: View, value: string): { scores: string; mask: string } | null {
  const where = view.producer(value);
  if (where?.op !== 'Where' || view.readers(value).length !== 1) return null;
  const [test, zero, weights] = where.inputs as [string, string, string];
  const softmax = view.producer(weights);
  const isGuard = view.producer(test)?.op === 'IsNaN' && view.producer(test)!.inputs[0] === weights;
  if (!isGuard || view.scalar(zero) !== 0 || softmax?.op !== 'Softmax') return null;
  const rank = view.builder.types.get(weights)?.shape?.length;
  const axis = intAttribute(softmax, 'axis', -1);
  const sum = view.producer(softmax.inputs[0]!);
  if (rank !== 4 || (axis !== -1 && axis !== 3) || sum?.op !== 'Add') return null;
  const [scores, mask] = sum.inputs as [string, string];
  if (isMask(view, mask)) return { scores, mask };
  return isMask(view, scores) ? { scores: mask, mask: scores } : null;
}

/** The same for all heads: made without scores. */
function isMask(view: View, value: string): boolean {
  const shape = view.builder.types.get(value)?.shape;
  return shape?.length === 4 && shape[1] === 1;
}
