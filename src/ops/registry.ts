/** All ops; one line a family. */
import { PtunedError } from '../errors.ts';
import type { InferNode } from '../onnx/builder.ts';
import { shapeText, unknownDim } from '../onnx/dim.ts';
import { describeNode, type Node } from '../onnx/ir.ts';
import { type TensorType, typeOf } from '../onnx/types.ts';
import { arithmeticOps } from './arithmetic.ts';
import { bitsAndBytesOps } from './bits-and-bytes.ts';
import { convolutionOps } from './convolution.ts';
import { einsumOps } from './einsum.ts';
import { generateOps } from './generate.ts';
import { indexingOps } from './indexing.ts';
import { layoutOps } from './layout.ts';
import { logicOps } from './logic.ts';
import { matmulOps } from './matmul.ts';
import { normalizeOps } from './normalize.ts';
import { type Op, opKey } from './op.ts';
import { quantizeOps } from './quantize.ts';
import { rearrangeOps } from './rearrange.ts';
import { reduceOps } from './reduce.ts';
import { refusedOps } from './refused.ts';
import { rotaryOps } from './rotary.ts';
import { scatterOps } from './scatter.ts';
import { trigonometryOps } from './trigonometry.ts';
import { unaryOps } from './unary.ts';

const families = [
  unaryOps,
  trigonometryOps,
  arithmeticOps,
  logicOps,
  matmulOps,
  einsumOps,
  convolutionOps,
  reduceOps,
  normalizeOps,
  rotaryOps,
  layoutOps,
  indexingOps,
  scatterOps,
  rearrangeOps,
  generateOps,
  quantizeOps,
  bitsAndBytesOps,
  refusedOps,
];

export const ops: ReadonlyMap<string, Op> = new Map(families.flat().map((op) => [opKey(op.domain ?? '', op.name), op]));

/** Why a node has no gradient rule, as the end of a sentence; '' where its op has no record. */
export function whyMissing(node: Node): string {
  const vjp = ops.get(opKey(node.domain, node.op))?.vjp;
  return typeof vjp === 'object' && 'missing' in vjp ? `: ${vjp.missing}` : '';
}

/**
 * Output types of a node; those of an op without a record are unknown, which matters only on a gradient path.
 * @throws PtunedError damaged_model when the node's inputs or attributes are not what its op takes
 */
export const inferNode: InferNode = (node, inputs) => {
  const op = ops.get(opKey(node.domain, node.op));
  if (op === undefined) return node.outputs.map(() => typeOf('float32', null));
  const types = inferred(op, node, inputs);
  return node.outputs.map((_, i) => types[i] ?? typeOf('float32', [unknownDim()]));
};

function inferred(op: Op, node: Node, inputs: (TensorType | null)[]): TensorType[] {
  try {
    return op.infer(node, inputs);
  } catch (error) {
    if (error instanceof PtunedError) throw error;
    const found = inputs.map((one) => (one === null ? 'none' : `${one.dtype} ${shapeText(one.shape)}`)).join(', ');
    const message = `${describeNode(node)} does not fit its inputs (${found}): ${(error as Error).message}.`;
    throw new PtunedError('damaged_model', message, { cause: error });
  }
}
