/** All lowerings; one line a family. */
import { PtunedError } from '../../errors.ts';
import type { GraphBuilder } from '../../onnx/builder.ts';
import { describeNode, type Node } from '../../onnx/ir.ts';
import { opKey } from '../../ops/op.ts';
import { castLike } from '../../ops/shared.ts';
import { activationLowerings } from './activation.ts';
import { attentionLowerings } from './attention.ts';
import { embeddingLowerings } from './embedding.ts';
import type { LowerContext, Lowering } from './lower.ts';
import { normalizationLowerings } from './normalization.ts';
import { rotaryLowerings } from './rotary.ts';

export const lowerings: ReadonlyMap<string, Lowering> = new Map(
  [activationLowerings, normalizationLowerings, embeddingLowerings, rotaryLowerings, attentionLowerings].flatMap(
    (family) => Object.entries(family),
  ),
);

/** Rewrites one node; returns the values that stand for its outputs. @throws PtunedError unsupported_op for a variant without a lowering */
export function lowerNode(builder: GraphBuilder, node: Node): string[] {
  const lowering = lowerings.get(opKey(node.domain, node.op))!;
  const outputs = lowering(contextOf(builder, node));
  return node.outputs.map((name, i) => {
    const value = outputs[i] ?? '';
    if (name !== '' && value === '') {
      throw new PtunedError('unsupported_op', `${describeNode(node)} yields its output ${i}, which has no lowering.`, {
        details: { op: node.op, domain: node.domain, node: node.name },
      });
    }
    return value;
  });
}

function contextOf(builder: GraphBuilder, node: Node): LowerContext {
  const input = (i: number) => (node.inputs[i] ? node.inputs[i]! : null);
  return {
    builder,
    node,
    input,
    required(i) {
      const name = input(i);
      if (name === null) throw new PtunedError('damaged_model', `${describeNode(node)} lacks its input ${i}.`);
      return name;
    },
    op: (op, inputs, attributes) => builder.op(op, inputs, attributes),
    scalar(value, like) {
      const { dtype } = builder.type(like);
      if (dtype === 'float32' || dtype === 'float16' || dtype === 'float64') return builder.constant(dtype, value);
      return castLike(builder, builder.constant('float32', value), like);
    },
    ints: (values) => builder.constant('int64', values),
  };
}
