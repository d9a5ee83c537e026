/** What an op is to this project: one record with its shape inference and its vector-Jacobian product beside each other. */
import type { GraphBuilder } from '../onnx/builder.ts';
import type { Graph, Node } from '../onnx/ir.ts';
import type { TensorType } from '../onnx/types.ts';

export type Infer = (node: Node, inputs: (TensorType | null)[]) => TensorType[];

export interface VjpContext {
  readonly node: Node;
  readonly builder: GraphBuilder;
  /** Name of input i. */
  input(i: number): string;
  /** Name of output i of the forward node, which gains that (optional) output when it has none yet. */
  output(i: number): string;
  /** Incoming gradient of output i; zeros of its shape where nothing downstream uses it. */
  gradient(i: number): string;
  hasGradient(i: number): boolean;
  /** Forward nodes that read a value. */
  consumers(value: string): readonly Node[];
}

/**
 * One gradient per input, null for none. A gradient may have the broadcast shape of the output: the engine reduces it to
 * the input's shape, adds up contributions, and drops what no one asked for.
 */
export type Vjp = (context: VjpContext) => (string | null)[];

/** Opsets of the files that are read. 26 is the newest that onnxruntime takes. */
export const oldestOpset = 11;
export const newestOpset = 26;

/** How files of older opsets write an op, and what becomes of that when they are read. */
export interface OlderForm {
  /** The first opset that has today's form. */
  before: number;
  /** What was different, in words. */
  what: string;
  /** Nodes of today's form in place of `node`, which may be changed; constants go to the graph's initializers. */
  lift(node: Node, graph: Graph): Node[];
}

export interface Op {
  name: string;
  /** "" (default) or com.microsoft. */
  domain?: string;
  /**
   * Opsets of its range, {@link oldestOpset} to {@link newestOpset}, that brought or revised it. A revision that
   * `older` does not name only added element types, or what may be left out.
   */
  opsets: readonly number[];
  /** Oldest first. */
  older?: readonly OlderForm[];
  infer: Infer;
  /**
   * Vector-Jacobian product in ops of the inference runtime; or why the gradient is zero, so that a path may end here;
   * or why there is no rule, so that an LM with this op on a path is refused.
   */
  vjp: Vjp | { none: string } | { missing: string };
  /** Its integer outputs stand for floats: the gradient passes as though nothing had been rounded. */
  straightThrough?: true;
}

/** Name and domain in one string, as the registry keys ops. */
export function opKey(domain: string, name: string): string {
  return domain === '' ? name : `${domain}.${name}`;
}
