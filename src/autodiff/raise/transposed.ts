/**
 * Keys are turned into columns to be multiplied with queries. A product that reads them as rows saves the turn, and that of
 * their gradient.
 */
import { attributesOf, intsAttribute } from '../../onnx/ir.ts';
import { type Pattern, scaling, type View } from './view.ts';

/** A·Transpose(B) of batches of matrices as one product. */
export const transposedFactor: Pattern = (view, node) => {
  if (node.op !== 'MatMul' || node.domain !== '') return null;
  const [left, right] = node.inputs as [string, string];
  const rows = asRows(view, right);
  if (rows === null) return null;
  const attributes = attributesOf({ transA: 0, transB: 1, alpha: { float: 1 } });
  return { ...node, op: 'FusedMatMul', domain: 'com.microsoft', inputs: [left, rows], attributes };
};

/** `value` with its last two axes exchanged, where a Transpose put them the other way round. */
function asRows(view: View, value: string): string | null {
  const { builder, producer } = view;
  const node = producer(value);
  if (node === undefined || node.domain !== '') return null;
  const x = node.inputs[0]!;
  const factor = scaling(view, node);
  if (factor !== null) {
    const rows = asRows(view, x);
    return rows === null ? null : builder.op(node.op, [rows, factor]);
  }
  const order = node.op === 'Transpose' ? intsAttribute(node, 'perm') : null;
  const last = (order?.length ?? 0) - 1;
  if (order === null || last < 2 || order[last - 1] !== last) return null;
  const kept = [...order.slice(0, -2), order[last]!, last];
  return kept.every((axis, i) => axis === i) ? x : builder.op('Transpose', [x], { perm: kept });
}
