/**
 * Grouped-query attention has fewer heads of keys and values than of queries. Exporters repeat them; here the queries of the
 * heads that share keys become rows of one product instead. Nothing is copied, and gradients of what was repeated are summed
 * by the products themselves.
 */
import type { GraphBuilder } from '../onnx/builder.ts';
import { sameDim } from '../onnx/dim.ts';
import { attributesOf, type Node } from '../onnx/ir.ts';
import { readsRows } from '../ops/matmul.ts';
import { rewriteNodes, scaling, type View } from './raise/view.ts';

/** Rewrites the builder's graph; what falls away is left for the prune pass. */
export function groupQueries(builder: GraphBuilder): void {
  rewriteNodes(builder, (view, node) => (readsRows(node) ? grouped(view, node) : null));
}

/** A [B, G·K, T, ·] times B [B, K, ·, ·] repeated G times: as [B, K, G·T, ·] times B. */
function grouped(view: View, node: Node): Node | null {
  const { builder } = view;
  const [left, right] = node.inputs as [string, string];
  const x = repeated(view, right);
  const [rows, heads] = builder.types.get(left)?.shape ?? [];
  if (x === null || builder.shape(left).length !== 4 || typeof heads !== 'number') return null;
  const [batch, shared] = builder.shape(x);
  if (!sameDim(rows!, batch!)) return null;
  const split = (count: number) => builder.constant('int64', [0, count, -1, 0]);
  const queries = builder.op('Reshape', [left, split(shared as number)]);
  const product = builder.fresh('grouped');
  builder.append({ ...node, name: product, inputs: [queries, x], outputs: [product] });
  return { ...node, op: 'Reshape', domain: '', inputs: [product, split(heads)], attributes: attributesOf({}) };
}

/** x [B, K, S, D] of Reshape(Expand(Unsqueeze(x, 2))) [B, G·K, S, D]; scaled as that is. */
function repeated(view: View, value: string): string | null {
  const { builder, producer } = view;
  const joined = producer(value);
  const factor = joined === undefined ? null : scaling(view, joined);
  if (factor !== null) {
    const x = repeated(view, joined!.inputs[0]!);
    return x === null ? null : builder.op(joined!.op, [x, factor]);
  }
  const wide = joined?.op === 'Reshape' ? producer(joined.inputs[0]!) : undefined;
  const single = wide?.op === 'Expand' ? producer(wide.inputs[0]!) : undefined;
  if (single?.op !== 'Unsqueeze') return null;
  const [from, stretched, to] = [single.inputs[0]!, wide!.outputs[0]!, value].map(
    (name) => builder.types.get(name)?.shape,
  );
  if (from?.length !== 4 || stretched?.length !== 5 || to?.length !== 4) return null;
  const [shared, groups] = [from[1]!, stretched[2]!];
  if (typeof shared !== 'number' || typeof groups !== 'number' || to[1] !== shared * groups) return null;
  const kept =
    sameDim(stretched[0]!, from[0]!) &&
    stretched[1] === shared &&
    sameDim(to[2]!, from[2]!) &&
    sameDim(to[3]!, from[3]!);
  return kept && builder.shape(single.outputs[0]!)[2] === 1 ? single.inputs[0]! : null;
}
