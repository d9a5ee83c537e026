/** Softmax and normalizations. */
import { intAttribute, type Node } from '../onnx/ir.ts';
import { typeOf } from '../onnx/types.ts';
import { flatSoftmax } from './older.ts';
import type { Infer, Op, Vjp, VjpContext } from './op.ts';
import { castLike, likeFirst, normalAxis, required } from './shared.ts';
import { scalar } from './unary.ts';

function axisConstant(c: VjpContext): string {
  const rank = c.builder.shape(c.input(0)).length;
  return c.builder.constant('int64', [normalAxis(c.node, intAttribute(c.node, 'axis', -1), rank)]);
}

/**
 * Exports guard fully masked rows, where p is NaN, in two ways: Where(IsNaN(p), 0, p), whose result stands in for p here,
 * and Where(row masked, 0, p). NaN · 0 would poison every gradient.
 */
function guarded(c: VjpContext, p: string): string {
  for (const test of c.consumers(p)) {
    if (test.op !== 'IsNaN') continue;
    const where = c.consumers(test.outputs[0]!).find((node) => node.op === 'Where' && node.inputs[2] === p);
    if (where !== undefined) return where.outputs[0]!;
  }
  if (!isChosenFrom(c, p)) return p;
  return c.builder.op('Where', [c.builder.op('IsNaN', [p]), scalar(c, 0), p]);
}

/** Whether something else may take the place of a value's elements. */
function isChosenFrom(c: VjpContext, value: string): boolean {
  return c.consumers(value).some((node) => {
    if (node.op === 'Where') return true;
    return (node.op === 'Cast' || node.op === 'Identity') && isChosenFrom(c, node.outputs[0]!);
  });
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

/**
 * x̂ = (x−μ)r, d = dY·γ: dX = r(d − mean d − x̂·mean(d·x̂)), with the forward node's own μ and r. Where something reads
 * these, dμ/dx = 1/n and dr/dx = −r²x̂/n.
 */
const layerNormVjp: Vjp = (c) => {
  const b = c.builder;
  const axes = b.constant('int64', normalizedAxes(c.node, b.shape(c.input(0)).length));
  const like = (value: string) => castLike(b, value, c.input(0));
  const [mean, inverse] = [like(c.output(1)), like(c.output(2))];
  const normal = b.op('Mul', [b.op('Sub', [c.input(0), mean]), inverse]);
  const d = b.op('Mul', [c.gradient(0), c.input(1)]);
  const meanD = b.op('ReduceMean', [d, axes], { keepdims: 1 });
  const meanProduct = b.op('ReduceMean', [b.op('Mul', [d, normal]), axes], { keepdims: 1 });
  const centred = b.op('Sub', [b.op('Sub', [d, meanD]), b.op('Mul', [normal, meanProduct])]);
  const fromY = b.op('Mul', [centred, inverse]);
  const dx = statisticsGradient(c, { normal, inverse, like }).reduce((sum, part) => b.op('Add', [sum, part]), fromY);
  return [dx, b.op('Mul', [c.gradient(0), normal]), c.gradient(0)].slice(0, c.node.inputs.length);
};

const rmsNormInfer: Infer = (node, inputs) => {
  const [y, , inverse] = layerNormInfer(node, inputs);
  return [y!, inverse!];
};

/** r = 1/√(mean x² + ε), d = dY·γ: dX = r(d − x·r²·mean(d·x)). Where something reads r, dr/dx = −r³x/n. */
const rmsNormVjp: Vjp = (c) => {
  const b = c.builder;
  const x = c.input(0);
  const axes = b.constant('int64', normalizedAxes(c.node, b.shape(x).length));
  const inverse = castLike(b, c.output(1), x);
  const squared = b.op('Mul', [inverse, inverse]);
  const d = b.op('Mul', [c.gradient(0), c.input(1)]);
  let mean = b.op('ReduceMean', [b.op('Mul', [d, x]), axes], { keepdims: 1 });
  if (c.hasGradient(1)) {
    const count = b.op('Div', [b.op('Size', [x]), b.op('Size', [c.output(1)])]);
    mean = b.op('Add', [mean, b.op('Div', [castLike(b, c.gradient(1), x), castLike(b, count, x)])]);
  }
  const along = b.op('Mul', [x, b.op('Mul', [mean, squared])]);
  const scale = () => b.op('Mul', [c.gradient(0), b.op('Mul', [x, inverse])]);
  return [b.op('Mul', [b.op('Sub', [d, along]), inverse]), scale()];
};

interface Normalized {
  normal: string;
  inverse: string;
  /** A statistic in the element type of x. */
  like(value: string): string;
}

/** What the gradients of μ and r, where there are any, add to that of x. */
function statisticsGradient(c: VjpContext, { normal, inverse, like }: Normalized): string[] {
  const b = c.builder;
  const parts: string[] = [];
  const perElement = (i: number) => {
    const count = b.op('Div', [b.op('Size', [c.input(0)]), b.op('Size', [c.output(i)])]);
    return b.op('Div', [like(c.gradient(i)), castLike(b, count, c.input(0))]);
  };
  if (c.hasGradient(1)) parts.push(perElement(1));
  if (c.hasGradient(2)) {
    const slope = b.op('Mul', [b.op('Mul', [inverse, inverse]), normal]);
    parts.push(b.op('Neg', [b.op('Mul', [perElement(2), slope])]));
  }
  return parts;
}

export const normalizeOps: Op[] = [
  { name: 'Softmax', opsets: [11, 13], older: [flatSoftmax], infer: likeFirst, vjp: softmaxVjp },
  { name: 'LogSoftmax', opsets: [11, 13], older: [flatSoftmax], infer: likeFirst, vjp: logSoftmaxVjp },
  { name: 'LayerNormalization', opsets: [17], infer: layerNormInfer, vjp: layerNormVjp },
  { name: 'SimplifiedLayerNormalization', opsets: [1], infer: rmsNormInfer, vjp: rmsNormVjp },
];
