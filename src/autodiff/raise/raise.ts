/**
 * The other way round from lowering: what exporters write out in many small nodes becomes the op that it is, where
 * onnxruntime has a kernel for that op and the op's gradient is cheaper than that of its parts together.
 */
import type { GraphBuilder } from '../../onnx/builder.ts';
import { activations } from './activation.ts';
import { type BlindRows, nanGuard } from './nan-guard.ts';
import { rmsNorm } from './rms-norm.ts';
import { rotaryEmbedding } from './rotary.ts';
import { transposedFactor } from './transposed.ts';
import { type Pattern, rewriteNodes } from './view.ts';

/** Rewrites the builder's graph; what the new nodes replace is left for the prune pass. */
export function raiseOps(builder: GraphBuilder, { blindRows = 'zero' }: { blindRows?: BlindRows } = {}): void {
  const patterns: Pattern[] = [activations(), rmsNorm, rotaryEmbedding(), nanGuard(blindRows), transposedFactor];
  rewriteNodes(builder, (view, node) => {
    // Patterns are for the CPU's kernels; half precision is a GPU's.
    const isSingle = builder.types.get(node.outputs[0]!)?.dtype === 'float32';
    return isSingle ? firstOf(patterns, (pattern) => pattern(view, node)) : null;
  });
}

function firstOf<T, R>(list: readonly T[], look: (one: T) => R | null): R | null {
  for (const one of list) {
    const found = look(one);
    if (found !== null) return found;
  }
  return null;
}
