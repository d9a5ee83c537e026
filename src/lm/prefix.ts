/** Keys and values before the first token (prefix tuning, P-tuning v2), as part of an LM's graph. */
import { pastInputs, prefixWidth } from '../models/past.ts';
import type { GraphBuilder } from '../onnx/builder.ts';
import type { Dim } from '../onnx/dim.ts';
import { dtypeCode } from '../onnx/dtype.ts';
import { typeOf } from '../onnx/types.ts';
import type { LmGraph } from './assemble.ts';
import { batch, feeds, tableRows } from './feeds.ts';

export interface PrefixValues {
  /** [batch, rows + sequence]: the prefix is never masked. */
  mask: string;
  /** Rows n as int64 [1]. Positions count on from the prefix, as those of PEFT and Transformers do. */
  rows: string;
  /** Past inputs to their values [batch, heads, n, size]. */
  past: Map<string, string>;
}

/**
 * Declares the table feed [n, layers · 2 · kv_heads · head_dim] (PEFT's layout) and gives every row of the batch its keys
 * and values. Nothing depends on the batch before the last Expand, so the gradient is summed over it first of all.
 */
export function prefixValues(builder: GraphBuilder, { inputs, model }: LmGraph): PrefixValues {
  builder.input(feeds.table, typeOf('float32', [tableRows, prefixWidth(inputs)]));
  const rows = builder.op('Shape', [feeds.table], { start: 0, end: 1 });
  const batchSize = builder.op('Shape', [feeds.ids], { start: 0, end: 1 });
  const places = pastInputs(inputs);
  const sizes = places.map(({ heads, size }) => heads * size);
  const split = builder.constant('int64', sizes);
  const parts = builder.emit('Split', [feeds.table, split], { axis: 1 }, { outputs: sizes.length });
  const past = new Map<string, string>();
  for (const [i, { name, heads, size }] of places.entries()) {
    const { dtype } = model.graph.inputs.find((one) => one.name === name)!;
    const shaped = builder.op('Reshape', [parts[i]!, builder.constant('int64', [0, heads, size])]);
    const perHead = builder.op('Transpose', [shaped], { perm: [1, 0, 2] });
    const cast = dtype === 'float32' ? perHead : builder.op('Cast', [perHead], { to: dtypeCode(dtype) });
    const dims = [batchSize, builder.constant('int64', [heads]), rows, builder.constant('int64', [size])];
    const value = builder.op('Expand', [cast, builder.op('Concat', dims, { axis: 0 })]);
    builder.types.set(value, typeOf(dtype, [batch, heads, tableRows, size] as Dim[]));
    past.set(name, value);
  }
  return { mask: prefixMask(builder, rows, batchSize), rows, past };
}

function prefixMask(builder: GraphBuilder, rows: string, batchSize: string): string {
  const dims = builder.op('Concat', [batchSize, rows], { axis: 0 });
  const ones = builder.op('Expand', [builder.constant('int64', [1]), dims]);
  builder.types.set(ones, typeOf('int64', [batch, tableRows]));
  return builder.op('Concat', [ones, feeds.mask], { axis: 1 });
}
