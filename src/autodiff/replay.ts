/**
 * Replays a graph's nodes into a builder. On the way what is already known becomes constants, an If whose condition is
 * known becomes the branch it takes, and fused ops become primitives where that is asked for.
 */
import { createBuilder, emptyGraph, type GraphBuilder } from '../onnx/builder.ts';
import type { Dim } from '../onnx/dim.ts';
import { dtypeCode } from '../onnx/dtype.ts';
import { type Attribute, type Graph, intAttribute, type Node, type Tensor } from '../onnx/ir.ts';
import { tensorOf, typeOfTensor } from '../onnx/types.ts';
import { opKey } from '../ops/op.ts';
import { inferNode } from '../ops/registry.ts';
import { castLike } from '../ops/shared.ts';
import { renameValues } from './inline.ts';
import { isLoweredEverywhere, lowerings, lowerNode } from './lower/registry.ts';

export interface ReplayOptions {
  /** Values of the source that have another name in the builder. Grows as nodes are replayed. */
  renamed: Map<string, string>;
  /** Whether a fused op, by its key, is rewritten to primitives. */
  lower(key: string): boolean;
  /** See LowerContext. Default null. */
  keyMask?: string | null;
  /** A known symbolic dimension as an int64 [1] value, null where there is no source for it. */
  dimSource?(dim: Dim): string | null;
  /** Called after a node was replayed; `node` reads and yields the source's names. */
  after?(node: Node): void;
}

/** Appends the graph's initializers and nodes. Its inputs must exist in the builder, or be renamed to what does. */
export function replay(builder: GraphBuilder, graph: Graph, options: ReplayOptions): void {
  addInitializers(builder, graph.initializers);
  for (const node of graph.nodes) {
    replayNode(builder, node, options);
    options.after?.(node);
  }
}

function addInitializers(builder: GraphBuilder, initializers: ReadonlyMap<string, Tensor>): void {
  for (const [name, tensor] of initializers) {
    builder.graph.initializers.set(name, tensor);
    builder.types.set(name, typeOfTensor(tensor));
  }
}

function replayNode(builder: GraphBuilder, node: Node, options: ReplayOptions): void {
  const { renamed } = options;
  const current = (name: string) => renamed.get(name) ?? name;
  const copy = renameValues(node, current);
  const key = opKey(node.domain, node.op);
  const branch = key === 'If' ? takenBranch(builder, copy) : null;
  if (branch !== null) {
    inlineBranch(builder, branch, node.outputs, options);
    return;
  }
  if (lowerings.has(key)) {
    if (!options.lower(key) && !isLoweredEverywhere(copy)) {
      appendFused(builder, copy);
      return;
    }
    const outputs = lowerNode(builder, copy, options.keyMask);
    for (const [i, name] of node.outputs.entries()) if (name !== '') renamed.set(name, outputs[i]!);
    return;
  }
  const value = sameValue(builder, copy) ?? knownValue(builder, copy, options.dimSource ?? (() => null));
  if (value === null) builder.append(copy);
  else if (value !== node.outputs[0]) renamed.set(node.outputs[0]!, value);
}

/** The value that a node only gives another name: exporters mark tied weights so, and cast what has the type already. */
function sameValue(builder: GraphBuilder, node: Node): string | null {
  const [value, like] = node.inputs as [string, string];
  switch (opKey(node.domain, node.op)) {
    case 'Identity':
      return value;
    case 'Cast':
      return intAttribute(node, 'to', 0) === dtypeCode(builder.type(value).dtype) ? value : null;
    case 'CastLike':
      return castLike(builder, value, like);
    default:
      return null;
  }
}

/** A fused op left as it is yields what its primitives would. */
function appendFused(builder: GraphBuilder, node: Node): void {
  const scratch = createBuilder(emptyGraph('scratch'), inferNode);
  for (const name of new Set(node.inputs)) if (name !== '') scratch.input(name, builder.type(name));
  const values = lowerNode(scratch, { ...node, outputs: [...node.outputs] });
  builder.append(node);
  for (const [i, name] of node.outputs.entries()) if (name !== '') builder.types.set(name, scratch.type(values[i]!));
}

/** The branch of an If whose condition is known, null where the run decides. */
function takenBranch(builder: GraphBuilder, node: Node): Graph | null {
  const condition = builder.type(node.inputs[0]!).value?.[0];
  if (typeof condition !== 'number') return null;
  const branch: Attribute | undefined = node.attributes.get(condition !== 0 ? 'then_branch' : 'else_branch');
  return branch?.kind === 'graph' ? branch.value : null;
}

/** Both branches, and several copies of one function, may use the same names: those of a branch become fresh ones. */
function inlineBranch(builder: GraphBuilder, branch: Graph, outputs: readonly string[], options: ReplayOptions): void {
  const inner = new Map<string, string>();
  const own = [...branch.initializers.keys(), ...branch.nodes.flatMap((node) => node.outputs)];
  for (const name of own) if (name !== '') inner.set(name, builder.fresh('branch'));
  const rename = (name: string) => inner.get(name) ?? name;
  addInitializers(builder, new Map([...branch.initializers].map(([name, tensor]) => [rename(name), tensor])));
  const prefix = builder.fresh('branch');
  for (const node of branch.nodes) {
    const copy = { ...renameValues(node, rename), name: `${prefix}/${node.name}` };
    replayNode(builder, copy, options);
    options.after?.(copy);
  }
  for (const [i, output] of branch.outputs.entries()) {
    const name = rename(output.name);
    options.renamed.set(outputs[i]!, options.renamed.get(name) ?? name);
  }
}

/** A constant, or known dimensions, that stand for what a node yields; null where it has to run. */
function knownValue(builder: GraphBuilder, node: Node, dimSource: (dim: Dim) => string | null): string | null {
  if (node.outputs.length !== 1 || node.domain !== '') return null;
  const name = node.outputs[0]!;
  const inputs = node.inputs.map((one) => (one === '' ? null : builder.type(one)));
  const type = inferNode(node, inputs)[0]!;
  if (type.value === null || type.shape === null || (type.dtype !== 'int64' && type.dtype !== 'bool')) return null;
  if (!type.shape.every((dim) => typeof dim === 'number')) return null;
  if (type.value.every((one) => typeof one === 'number')) {
    addInitializers(builder, new Map([[name, tensorOf(type.dtype, type.shape as number[], type.value as number[])]]));
    return name;
  }
  if (type.shape.length > 1 || type.value.length === 0) return null;
  const parts = type.value.map(dimSource);
  if (!parts.every((part) => part !== null)) return null;
  const list = parts.length === 1 ? parts[0]! : builder.op('Concat', parts as string[], { axis: 0 });
  return type.shape.length === 0 ? builder.op('Squeeze', [list, builder.constant('int64', [0])]) : list;
}
