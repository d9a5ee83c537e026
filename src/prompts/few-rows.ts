/** Products of a few rows with a weight, in the form in which onnxruntime reads the weight fastest. */
import type { GraphBuilder } from '../onnx/builder.ts';
import { attributesOf, intAttribute, type Node } from '../onnx/ir.ts';
import { mostTerms } from './gradients.ts';

/**
 * x·Wᵀ as (W·xᵀ)ᵀ. The runtime copies the right operand into blocks before it multiplies: of the two that had better be the
 * rows [n, inputs] and not the weight, n being a hundredth of its rows. A single row is multiplied without the copy.
 */
export function weightsOnTheLeft(builder: GraphBuilder, nodes: readonly Node[]): Node[] {
  return nodes.flatMap((node) => {
    if (!isFewRowsTimesWeight(builder, node)) return [node];
    const [x, weight] = node.inputs as [string, string];
    const name = builder.fresh(node.op);
    const product: Node = { ...node, name, inputs: [weight, x], outputs: [name] };
    builder.infer(product);
    const transpose = { op: 'Transpose', domain: '', name: node.name, inputs: [name], outputs: node.outputs };
    return [product, { ...transpose, attributes: attributesOf({ perm: [1, 0] }) }];
  });
}

function isFewRowsTimesWeight(builder: GraphBuilder, node: Node): boolean {
  if (node.op !== 'FusedMatMul' || intAttribute(node, 'transA', 0) === 1 || intAttribute(node, 'transB', 0) === 0)
    return false;
  const rows = builder.shape(node.inputs[0]!)[0]!;
  return typeof rows === 'number' && rows > 1 && rows <= mostTerms;
}
