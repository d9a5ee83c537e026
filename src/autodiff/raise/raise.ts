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
import { type Pattern, viewOf } from './view.ts';

/** Rewrites the builder's graph; what the new nodes replace is left for the prune pass. */
export function raiseOps(builder: GraphBuilder, { blindRows = 'zero' }: { blindRows?: BlindRows } = {}): void {
  const view = viewOf(builder);
  const patterns: Pattern[] = [activations(view), rmsNorm, rotaryEmbedding(), nanGuard(blindRows), transposedFactor];
  const nodes = builder.graph.nodes;
  builder.graph.nodes = [];
  for (const node of nodes) {
    const name = node.outputs[0]!;
    const type = builder.types.get(name);
    // Patterns are for the CPU's kernels; half precision is a GPU's.
    const found = type?.dtype === 'float32' ? firstOf(patterns, (pattern) => pattern(view, node)) : null;
    builder.graph.nodes.push(found ?? node);
    if (found !== null && found !== node) {
      builder.infer(found);
      builder.types.set(name, type!);
    }
  }
}

function firstOf<T, R>(list: readonly T[], look: (one: T) => R | null): R | null {
  for (const one of list) {
    const found = look(one);
    if (found !== null) return found;
  }
  return null;
}
