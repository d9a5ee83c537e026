/** Forms that ops had in older opsets, and how they are brought to today's. */
import { type AttributeInit, attributesOf, type Graph, intAttribute, intsAttribute, type Node } from '../onnx/ir.ts';
import { tensorOf } from '../onnx/types.ts';
import type { OlderForm } from './op.ts';

/** An int64 constant that `node` alone reads. */
function constantFor(node: Node, graph: Graph, hint: string, values: number[]): string {
  const name = `pt/${hint}/${node.outputs[0]}`;
  graph.initializers.set(name, tensorOf('int64', [values.length], values));
  return name;
}

/** Makes nodes that together take the place of `node`. */
function partsOf(node: Node) {
  return (op: string, name: string, inputs: string[], attributes: Record<string, AttributeInit> = {}): Node => ({
    op,
    domain: '',
    name: `${node.name}/${name}`,
    inputs,
    outputs: [`pt/${name}/${node.outputs[0]}`],
    attributes: attributesOf(attributes),
  });
}

/** Axes as an attribute. */
export function axesAttribute(before: number): OlderForm {
  return {
    before,
    what: 'axes as an attribute',
    lift(node, graph) {
      const axes = intsAttribute(node, 'axes');
      node.attributes.delete('axes');
      if (axes !== null) node.inputs = [node.inputs[0]!, constantFor(node, graph, 'axes', axes)];
      return [node];
    },
  };
}

export const splitAttribute: OlderForm = {
  before: 13,
  what: 'sizes as an attribute',
  lift(node, graph) {
    const sizes = intsAttribute(node, 'split');
    node.attributes.delete('split');
    if (sizes !== null) node.inputs = [node.inputs[0]!, constantFor(node, graph, 'split', sizes)];
    return [node];
  },
};

export const splitCount: OlderForm = {
  before: 18,
  what: 'as many equal parts as there are outputs, where no sizes are given',
  lift(node) {
    const given = (node.inputs[1] ?? '') !== '';
    if (!given) node.attributes.set('num_outputs', { kind: 'int', value: node.outputs.length });
    return [node];
  },
};

/** The last axis alone is by far the usual case. */
export const flatSoftmax: OlderForm = {
  before: 13,
  what: 'over all axes from `axis` on, which is 1 where it is not given',
  lift(node) {
    const axis = intAttribute(node, 'axis', 1);
    if (axis === -1) return [node];
    const [input, output] = [node.inputs[0]!, node.outputs[0]!];
    const part = partsOf(node);
    const flat = part('Flatten', 'flat', [input], { axis });
    const soft = part(node.op, 'soft', [flat.outputs[0]!], { axis: -1 });
    const shape = part('Shape', 'shape', [input]);
    const result = part('Reshape', 'result', [soft.outputs[0]!, shape.outputs[0]!]);
    return [flat, soft, shape, { ...result, outputs: [output] }];
  },
};

/** Scale and bias [groups] stretched to [channels]. */
export const scalesByGroup: OlderForm = {
  before: 21,
  what: 'one scale and bias a group',
  lift(node, graph) {
    const part = partsOf(node);
    const groups = intAttribute(node, 'num_groups', 1);
    const count = constantFor(node, graph, 'groups', [groups]);
    const channels = part('Shape', 'channels', [node.inputs[0]!], { start: 1, end: 2 });
    const each = part('Div', 'each', [channels.outputs[0]!, count]);
    const shape = part('Concat', 'shape', [count, each.outputs[0]!], { axis: 0 });
    const column = constantFor(node, graph, 'column', [groups, 1]);
    const stretched = node.inputs.slice(1).flatMap((input, i) => {
      const placed = part('Reshape', `placed${i}`, [input, column]);
      const wide = part('Expand', `wide${i}`, [placed.outputs[0]!, shape.outputs[0]!]);
      return [placed, wide, part('Reshape', `channel${i}`, [wide.outputs[0]!, channels.outputs[0]!])];
    });
    node.inputs = [node.inputs[0]!, ...stretched.filter((_, i) => i % 3 === 2).map((one) => one.outputs[0]!)];
    return [channels, each, shape, ...stretched, node];
  },
};
