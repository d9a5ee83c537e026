/** All ops; one line a family. */
import type { InferNode } from '../onnx/builder.ts';
import { unknownDim } from '../onnx/dim.ts';
import { typeOf } from '../onnx/types.ts';
import { arithmeticOps } from './arithmetic.ts';
import { generateOps } from './generate.ts';
import { indexingOps } from './indexing.ts';
import { layoutOps } from './layout.ts';
import { logicOps } from './logic.ts';
import { matmulOps } from './matmul.ts';
import { normalizeOps } from './normalize.ts';
import { type Op, opKey } from './op.ts';
import { reduceOps } from './reduce.ts';
import { unaryOps } from './unary.ts';

const families = [
  unaryOps,
  arithmeticOps,
  logicOps,
  matmulOps,
  reduceOps,
  normalizeOps,
  layoutOps,
  indexingOps,
  generateOps,
];

export const ops: ReadonlyMap<string, Op> = new Map(families.flat().map((op) => [opKey(op.domain ?? '', op.name), op]));

/** Output types of a node; those of an op without a record are unknown, which matters only on a gradient path. */
export const inferNode: InferNode = (node, inputs) => {
  const op = ops.get(opKey(node.domain, node.op));
  if (op === undefined) return node.outputs.map(() => typeOf('float32', null));
  const types = op.infer(node, inputs);
  return node.outputs.map((_, i) => types[i] ?? typeOf('float32', [unknownDim()]));
};
