/** All lowerings; one line a family. */
import type { GraphBuilder } from '../../onnx/builder.ts';
import type { Node } from '../../onnx/ir.ts';
import { opKey } from '../../ops/op.ts';
import { activationLowerings } from './activation.ts';
import { attentionLowerings } from './attention.ts';
import { channelLowerings } from './channels.ts';
import { embeddingLowerings } from './embedding.ts';
import { gemmLowerings } from './gemm.ts';
import { groupQueryLowerings } from './group-query.ts';
import { integerProductLowerings } from './integer-product.ts';
import { type LoweredOp, lowerWith } from './lower.ts';
import { microsoftAttentionLowerings } from './microsoft-attention.ts';
import { multiHeadLowerings } from './multi-head.ts';
import { normalizationLowerings } from './normalization.ts';
import { qLinearLowerings } from './qlinear.ts';
import { rotaryLowerings } from './rotary.ts';

const families = [
  activationLowerings,
  normalizationLowerings,
  channelLowerings,
  embeddingLowerings,
  rotaryLowerings,
  attentionLowerings,
  microsoftAttentionLowerings,
  multiHeadLowerings,
  groupQueryLowerings,
  gemmLowerings,
  integerProductLowerings,
  qLinearLowerings,
];

export const lowerings: ReadonlyMap<string, LoweredOp> = new Map(
  families.flat().map((op) => [opKey(op.domain ?? '', op.name), op]),
);

/** Rewrites one node that has a lowering; returns the values that stand for its outputs. @throws PtunedError unsupported_op */
export function lowerNode(builder: GraphBuilder, node: Node, keyMask: string | null = null): string[] {
  return lowerWith(lowerings.get(opKey(node.domain, node.op))!, builder, node, keyMask);
}

/** Whether a fused op is rewritten for inference, too: the runtime has no right kernel for this form of it on a CPU. */
export function isLoweredEverywhere(node: Node): boolean {
  return lowerings.get(opKey(node.domain, node.op))?.everywhere?.(node) ?? false;
}
