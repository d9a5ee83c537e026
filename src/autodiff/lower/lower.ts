/** How a fused op is written in ops that have gradient rules. */
import { PtunedError } from '../../errors.ts';
import type { GraphBuilder } from '../../onnx/builder.ts';
import { type Attribute, type AttributeInit, describeNode, type Node } from '../../onnx/ir.ts';
import { type OlderForm, opKey } from '../../ops/op.ts';
import { castLike, unsupported } from '../../ops/shared.ts';

export interface LowerContext {
  readonly builder: GraphBuilder;
  readonly node: Node;
  /** [batch, keys] int64, 0 at keys no query may see, past ones included; null where rows have no gaps. */
  readonly keyMask: string | null;
  /** Name of input i, null where it is left out. */
  input(i: number): string | null;
  /** Name of a required input. */
  required(i: number): string;
  op(op: string, inputs: readonly string[], attributes?: Record<string, AttributeInit>): string;
  /** A scalar of the element type of input `like`. */
  scalar(value: number, like: string): string;
  ints(values: number[]): string;
}

/** Emits the primitives and returns one value per output; outputs that nothing uses may be left out (''). */
export type Lowering = (c: LowerContext) => string[];

/** Marks an attribute that a lowering reads. */
export const read = 'read';

export interface LoweredOp {
  name: string;
  /** "" (default) or com.microsoft. */
  domain?: string;
  /** As in Op. */
  opsets: readonly number[];
  older?: readonly OlderForm[];
  /**
   * Its attributes: `read`, or the one value at which one changes nothing. A node with another value, with an attribute
   * that is not here, or with more inputs is refused by name.
   */
  attributes: Readonly<Record<string, typeof read | { only: number | string }>>;
  /** Inputs that the lowering knows, the optional ones included. */
  inputs: number;
  lower: Lowering;
  /** Forms that the runtime computes on no CPU, or wrongly: they are rewritten for inference, too. */
  everywhere?(node: Node): boolean;
  /** Its kernel is told how many keys a row has, not which: rows with gaps in them need the lowering, also for inference. */
  countsKeys?: true;
}

/**
 * Rewrites one node; returns the values that stand for its outputs.
 * @throws PtunedError unsupported_op for a variant without a lowering
 */
export function lowerWith(op: LoweredOp, builder: GraphBuilder, node: Node, keyMask: string | null): string[] {
  refuseUnknown(op, node);
  const outputs = op.lower(contextOf(builder, node, keyMask));
  return node.outputs.map((name, i) => {
    const value = outputs[i] ?? '';
    if (name !== '' && value === '') throw unsupported(node, `yields its output ${i}, which has no lowering`);
    return value;
  });
}

function refuseUnknown(op: LoweredOp, node: Node): void {
  for (const [name, attribute] of node.attributes) {
    const known = op.attributes[name];
    if (known === read) continue;
    const value = settingOf(attribute);
    if (known?.only === value) continue;
    const accepted = known === undefined ? Object.keys(op.attributes).join(', ') : `${name} = ${known.only}`;
    throw unsupported(node, `has ${name} = ${value}, which has no gradient; known are ${accepted}`);
  }
  const extra = node.inputs.findIndex((name, i) => name !== '' && i >= op.inputs);
  if (extra >= 0) {
    const key = opKey(node.domain, node.op);
    throw unsupported(node, `takes an input ${extra}; of ${key} inputs 0 to ${op.inputs - 1} have a gradient`);
  }
}

function settingOf(attribute: Attribute): number | string {
  const { kind } = attribute;
  return kind === 'int' || kind === 'float' || kind === 'string' ? attribute.value : `(${kind})`;
}

function contextOf(builder: GraphBuilder, node: Node, keyMask: string | null): LowerContext {
  const input = (i: number) => (node.inputs[i] ? node.inputs[i]! : null);
  return {
    builder,
    node,
    keyMask,
    input,
    required(i) {
      const name = input(i);
      if (name === null) throw new PtunedError('damaged_model', `${describeNode(node)} lacks its input ${i}.`);
      return name;
    },
    op: (op, inputs, attributes) => builder.op(op, inputs, attributes),
    scalar(value, like) {
      const { dtype } = builder.type(like);
      if (dtype === 'float32' || dtype === 'float16' || dtype === 'float64') return builder.constant(dtype, value);
      return castLike(builder, builder.constant('float32', value), like);
    },
    ints: (values) => builder.constant('int64', values),
  };
}
