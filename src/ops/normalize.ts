/** Softmax and normalizations. */
import { intAttribute, type Node } from '../onnx/ir.ts';
import { typeOf } from '../onnx/types.ts';
import type { Infer, Op, Vjp, VjpContext } from './op.ts';
import { castLike, likeFirst, normalAxis, required, unsupported } from './shared.ts';

function axisConstant(c: VjpContext): string {
  const rank = c.builder.shape(c.input(0)).length;
  return c.builder.constant('int64', [normalAxis(c.node, intAttribute(c.node, 'axis', -1), rank)]);
}

/**
 * Exports guard fully masked rows with Where(IsNaN(p), 0, p). The guarded value must stand in for p here: in such a row
 * p itself is NaN and NaN · 0 would poison every gradient.
 */
function guarded(c: VjpContext, p: string): string {
  for (const test of c.consumers(p)) {
    if (test.op !== 'IsNaN') continue;
    const where = c.consumers(test.outputs[0]!).find((node) => node.op === 'Where' && node.inputs[2] === p);
    if (where !== undefined) return where.outputs[0]!;
  }
  return p;
}

/** p(dY − Σ p·dY). */
const softmaxVjp: Vjp = (c) => {
  const b = c.builder;
  const p = guarded(c, c.output(0));
  const product = b.op('Mul', [p, c.gradient(0)]);
  const total = b.op('ReduceSum', [product, axisConstant(c)], { keepdims: 1 });
  return [b.op('Sub', [product, b.op('Mul', [p, total])])];
};

/** dY − softmax·ΣdY. */
const logSoftmaxVjp: Vjp = (c) => {
  const b = c.builder;
  const total = b.op('ReduceSum', [c.gradient(0), axisConstant(c)], { keepdims: 1 });
  return [b.op('Sub', [c.gradient(0), b.op('Mul', [b.op('Exp', [c.output(0)]), total])])];
};

const layerNormInfer: Infer = (node, inputs) => {
  const x = required(node, inputs, 0);
  const axis = x.shape === null ? 0 : normalAxis(node, intAttribute(node, 'axis', -1), x.shape.length);
  const statistics = x.shape?.map((dim, i) => (i >= axis ? 1 : dim)) ?? null;
  return [typeOf(x.dtype, x.shape), typeOf('float32', statistics), typeOf('float32', statistics)];
};

function normalizedAxes(node: Node, rank: number): number[] {
  const axis = normalAxis(node, intAttribute(node, 'axis', -1), rank);
  return Array.from({ length: rank - axis }, (_, i) => axis + i);
}

/** x̂ = (x−μ)r, d = dY·γ: dX = r(d − mean d − x̂·mean(d·x̂)), with the forward node's own μ and r. */
const layerNormVjp: Vjp = (c) => {
  const b = c.builder;
  if (c.hasGradient(1) || c.hasGradient(2))
    throw unsupported(c.node, 'has a mean or deviation that the logits depend on');
  const axes = b.constant('int64', normalizedAxes(c.node, b.shape(c.input(0)).length));
  const like = (value: string) => castLike(b, value, c.input(0));
  const [mean, inverse] = [like(c.output(1)), like(c.output(2))];
  const normal = b.op('Mul', [b.op('Sub', [c.input(0), mean]), inverse]);
  const d = b.op('Mul', [c.gradient(0), c.input(1)]);
  const meanD = b.op('ReduceMean', [d, axes], { keepdims: 1 });
  const meanProduct = b.op('ReduceMean', [b.op('Mul', [d, normal]), axes], { keepdims: 1 });
  const centred = b.op('Sub', [b.op('Sub', [d, meanD]), b.op('Mul', [normal, meanProduct])]);
  const dx = b.op('Mul', [centred, inverse]);
  return [dx, b.op('Mul', [c.gradient(0), normal]), c.gradient(0)].slice(0, c.node.inputs.length);
};

export const normalizeOps: Op[] = [
  { name: 'Softmax', infer: likeFirst, vjp: softmaxVjp },
  { name: 'LogSoftmax', infer: likeFirst, vjp: logSoftmaxVjp },
  { name: 'LayerNormalization', infer: layerNormInfer, vjp: layerNormVjp },
];
