/** Logits of chosen tokens alone: the choice is moved up to the head's weights, so that no others are computed. */
import type { GraphBuilder } from '../onnx/builder.ts';
import { sameDim } from '../onnx/dim.ts';
import { intAttribute, intsAttribute, type Node } from '../onnx/ir.ts';

/** Ops that treat every logit alike. */
const unary = new Set(['Cast', 'Identity', 'Tanh', 'Neg']);
const binary = new Set(['Add', 'Sub', 'Mul', 'Div']);

/**
 * Columns `ids` (a value of integers [k]) of the last axis of `logits` [.., .., V]: [.., .., k]. Rows of constant weights
 * are picked when the session opens, once.
 */
export function pickLogits(builder: GraphBuilder, logits: string, ids: string): string {
  const producers = new Map(builder.graph.nodes.flatMap((node) => node.outputs.map((name) => [name, node])));
  const vocabulary = builder.shape(logits).at(-1)!;
  const isConstant = (name: string): boolean => {
    if (builder.graph.initializers.has(name)) return true;
    const node = producers.get(name);
    return node !== undefined && node.inputs.length > 0 && node.inputs.every((one) => one === '' || isConstant(one));
  };
  /** A constant's columns, or itself where it is the same for all. */
  const pickConstant = (name: string): string => {
    const last = builder.shape(name).at(-1);
    return last !== undefined && sameDim(last, vocabulary) ? builder.op('Gather', [name, ids], { axis: -1 }) : name;
  };
  const repeated = (node: Node, inputs: string[]): string => {
    const name = builder.fresh('picked');
    builder.append({ ...node, name, inputs, outputs: [name] });
    return name;
  };
  const pick = (value: string): string => {
    const node = producers.get(value);
    if (node !== undefined) {
      const [first, second, third] = node.inputs as [string, string, string | undefined];
      if (unary.has(node.op)) return repeated(node, [pick(first)]);
      if (node.op === 'Transpose' && keepsLast(node)) return repeated(node, [pick(first)]);
      if (binary.has(node.op) && isConstant(second)) return repeated(node, [pick(first), pickConstant(second)]);
      if (binary.has(node.op) && isConstant(first)) return repeated(node, [pickConstant(first), pick(second)]);
      if (node.op === 'MatMul' && isConstant(second) && builder.shape(second).length === 2)
        return repeated(node, [first, pickConstant(second)]);
      if (node.op === 'Gemm' && isConstant(second) && isConstant(third ?? second)) {
        const axis = intAttribute(node, 'transB', 0) === 1 ? 0 : 1;
        const bias = third === undefined || third === '' ? [] : [pickConstant(third)];
        return repeated(node, [first, builder.op('Gather', [second, ids], { axis }), ...bias]);
      }
    }
    return builder.op('Gather', [value, ids], { axis: -1 });
  };
  return pick(logits);
}

function keepsLast(node: Node): boolean {
  const perm = intsAttribute(node, 'perm');
  return perm !== null && perm.at(-1) === perm.length - 1;
}
