/** Sums a gradient over the axes along which its value was broadcast. */
import type { GraphBuilder } from '../onnx/builder.ts';
import { type Dim, isClampOf, sameDim, sameShape } from '../onnx/dim.ts';

/**
 * `gradient`, of a shape that `value` broadcasts to, reduced to the shape of `value`.
 * Where both shapes are provably equal nothing is emitted; where the axes are known they are summed; otherwise the axes
 * are found at run time, since two symbolic dimensions that differ in name may be equal, or one of them 1.
 */
export function unbroadcast(builder: GraphBuilder, gradient: string, value: string): string {
  const from = builder.shape(gradient);
  const to = builder.shape(value);
  if (sameShape(from, to)) return gradient;
  const axes = summedAxes(from, to);
  return axes === null
    ? unbroadcastAtRunTime(builder, gradient, value)
    : sumOver(builder, gradient, axes, from.length - to.length);
}

/** Axes to sum (counted in `from`), or null when that depends on the run. */
function summedAxes(from: readonly Dim[], to: readonly Dim[]): number[] | null {
  const extra = from.length - to.length;
  if (extra < 0) return null;
  const axes = Array.from({ length: extra }, (_, i) => i);
  for (const [i, wanted] of to.entries()) {
    const found = from[extra + i]!;
    if (sameDim(found, wanted) || isClampOf(wanted, found)) continue;
    if (wanted === 1) axes.push(extra + i);
    // A number above 1 cannot have been stretched: both are that number.
    else if (typeof wanted !== 'number') return null;
  }
  return axes;
}

function sumOver(builder: GraphBuilder, gradient: string, axes: number[], extra: number): string {
  if (axes.length === 0) return gradient;
  const leading = axes.filter((axis) => axis < extra);
  const kept = axes.filter((axis) => axis >= extra).map((axis) => axis - extra);
  let result = gradient;
  if (leading.length > 0)
    result = builder.op('ReduceSum', [result, builder.constant('int64', leading)], { keepdims: 0 });
  if (kept.length > 0) result = builder.op('ReduceSum', [result, builder.constant('int64', kept)], { keepdims: 1 });
  return result;
}

function unbroadcastAtRunTime(builder: GraphBuilder, gradient: string, value: string): string {
  const extra = builder.shape(gradient).length - builder.shape(value).length;
  const target = builder.op('Shape', [value]);
  const ones = builder.constant(
    'int64',
    Array.from({ length: Math.max(extra, 0) }, () => 1),
  );
  const padded = extra > 0 ? builder.op('Concat', [ones, target], { axis: 0 }) : target;
  const stretched = builder.op('Not', [builder.op('Equal', [builder.op('Shape', [gradient]), padded])]);
  const axes = builder.op('Reshape', [builder.op('NonZero', [stretched]), builder.constant('int64', [-1])]);
  const summed = builder.op('ReduceSum', [gradient, axes], { keepdims: 1, noop_with_empty_axes: 1 });
  const result = builder.op('Reshape', [summed, target]);
  builder.types.set(result, builder.type(value));
  return result;
}
