/** How a fused op is written in ops that have gradient rules. */
import type { GraphBuilder } from '../../onnx/builder.ts';
import type { AttributeInit, Node } from '../../onnx/ir.ts';

export interface LowerContext {
  readonly builder: GraphBuilder;
  readonly node: Node;
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

/** Lowerings of one family by op key. */
export type LoweringFamily = Record<string, Lowering>;
