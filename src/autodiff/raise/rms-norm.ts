/** γ·x / √(mean(x²) + ε), as LLaMA's and T5's exports write it, becomes one node that yields 1/√(…) for the gradient too. */
import { attributesOf, intAttribute, type Node } from '../../onnx/ir.ts';
import { operands, type Pattern, type View } from './view.ts';

export const rmsNorm: Pattern = (view, node) => {
  const { builder } = view;
  const isVector = (value: string) => builder.types.get(value)?.shape?.length === 1;
  const [scale, normal] = operands(node, 'Mul', isVector) ?? [];
  if (scale === undefined || normal === undefined) return null;
  const found = normalized(view, view.producer(normal));
  if (found === null || builder.type(scale).dtype !== 'float32') return null;
  const width = builder.types.get(found.x)?.shape?.at(-1);
  if (typeof width !== 'number' || builder.shape(scale)[0] !== width) return null;
  const attributes = attributesOf({ axis: -1, epsilon: { float: found.epsilon }, stash_type: 1 });
  return { ...node, op: 'SimplifiedLayerNormalization', inputs: [found.x, scale], attributes };
};

/** x and ε of x·(1/√(mean(x²) + ε)) or x / √(…). */
function normalized(view: View, node: Node | undefined): { x: string; epsilon: number } | null {
  const byRoot = node?.op === 'Div' ? meanBelow(view, node.inputs[1]!) : null;
  if (byRoot !== null) return byRoot.x === node!.inputs[0] ? byRoot : null;
  const [inverse, x] = operands(node, 'Mul', (value) => meanOfInverse(view, value) !== null) ?? [];
  const found = inverse === undefined ? null : meanOfInverse(view, inverse);
  return found !== null && found.x === x ? found : null;
}

function meanOfInverse(view: View, value: string) {
  const node = view.producer(value);
  if (node?.op === 'Reciprocal') return meanBelow(view, node.inputs[0]!);
  if (node?.op === 'Div' && view.scalar(node.inputs[0]!) === 1) return meanBelow(view, node.inputs[1]!);
  return node?.op === 'Pow' && view.scalar(node.inputs[1]!) === -0.5 ? mean(view, node.inputs[0]!) : null;
}

function meanBelow(view: View, root: string) {
  const node = view.producer(root);
  const isRoot = node?.op === 'Sqrt' || (node?.op === 'Pow' && view.scalar(node.inputs[1]!) === 0.5);
  return isRoot ? mean(view, node.inputs[0]!) : null;
}

/** mean(x²) + ε over the last axis. */
function mean(view: View, sum: string): { x: string; epsilon: number } | null {
  const [number, average] = operands(view.producer(sum), 'Add', (value) => view.scalar(value) !== null) ?? [];
  const reduce = average === undefined ? undefined : view.producer(average);
  if (reduce?.op !== 'ReduceMean' || intAttribute(reduce, 'keepdims', 1) !== 1) return null;
  const axis = view.scalar(reduce.inputs[1] ?? '');
  const square = view.producer(reduce.inputs[0]!);
  const [x, by] = square?.inputs ?? [];
  const isSquare = (square?.op === 'Pow' && view.scalar(by!) === 2) || (square?.op === 'Mul' && x === by);
  const rank = view.builder.types.get(x ?? '')?.shape?.length;
  if (!isSquare || rank === undefined || (axis !== -1 && axis !== rank - 1)) return null;
  return { x: x!, epsilon: view.scalar(number!)! };
}
