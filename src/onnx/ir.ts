/** The graph as the project works with it: values are names, nodes in topological order, weights stay in their files. */
import { PtunedError } from '../errors.ts';
import type { Dim } from './dim.ts';
import type { DType } from './dtype.ts';

export interface ExternalData {
  /** File name relative to the model's directory. */
  location: string;
  offset: number;
  length: number;
}

/** A constant: bytes in little-endian raw_data form, or where they lie in a file. */
export interface Tensor {
  dtype: DType;
  dims: number[];
  data: Uint8Array | ExternalData;
}

export type Attribute =
  | { kind: 'int'; value: number }
  | { kind: 'float'; value: number }
  | { kind: 'string'; value: string }
  | { kind: 'ints'; value: number[] }
  | { kind: 'floats'; value: number[] }
  | { kind: 'strings'; value: string[] }
  | { kind: 'tensor'; value: Tensor }
  | { kind: 'graph'; value: Graph }
  | { kind: 'reference'; value: string };

export interface Node {
  op: string;
  /** "" is the default domain (ai.onnx). */
  domain: string;
  name: string;
  /** "" marks an optional input left out. */
  inputs: string[];
  outputs: string[];
  attributes: Map<string, Attribute>;
}

export interface ValueInfo {
  name: string;
  dtype: DType;
  shape: Dim[] | null;
  /** The file gives no type (it need not for outputs of subgraphs): `dtype` means nothing. */
  untyped?: true;
}

export interface Graph {
  name: string;
  inputs: ValueInfo[];
  outputs: ValueInfo[];
  initializers: Map<string, Tensor>;
  nodes: Node[];
  /** What is known of values between, for the runtime. */
  values?: ValueInfo[];
}

export interface OnnxFunction {
  name: string;
  domain: string;
  inputs: string[];
  outputs: string[];
  /** Attributes that a call may leave out, with their values then. */
  defaults: Map<string, Attribute>;
  nodes: Node[];
}

export interface Model {
  irVersion: number;
  producer: string;
  /** Domain to opset version. */
  opsets: Map<string, number>;
  graph: Graph;
  functions: OnnxFunction[];
}

export function isExternal(data: Tensor['data']): data is ExternalData {
  return !(data instanceof Uint8Array);
}

export function elementCount(dims: readonly number[]): number {
  return dims.reduce((product, dim) => product * dim, 1);
}

export function intAttribute(node: Node, name: string, fallback: number): number {
  const found = node.attributes.get(name);
  if (found === undefined) return fallback;
  if (found.kind !== 'int') throw attributeError(node, name, 'int', found.kind);
  return found.value;
}

export function floatAttribute(node: Node, name: string, fallback: number): number {
  const found = node.attributes.get(name);
  if (found === undefined) return fallback;
  if (found.kind !== 'float') throw attributeError(node, name, 'float', found.kind);
  return found.value;
}

export function intsAttribute(node: Node, name: string): number[] | null {
  const found = node.attributes.get(name);
  if (found === undefined) return null;
  if (found.kind !== 'ints') throw attributeError(node, name, 'ints', found.kind);
  return found.value;
}

export function stringAttribute(node: Node, name: string, fallback: string): string {
  const found = node.attributes.get(name);
  if (found === undefined) return fallback;
  if (found.kind !== 'string') throw attributeError(node, name, 'string', found.kind);
  return found.value;
}

function attributeError(node: Node, name: string, wanted: string, found: string): PtunedError {
  return new PtunedError(
    'damaged_model',
    `${describeNode(node)}: attribute ${name} is of kind ${found}, ${wanted} expected.`,
  );
}

/** A node in words, for messages: `Gather "/transformer/wte/Gather"`. */
export function describeNode(node: Node): string {
  const op = node.domain === '' ? node.op : `${node.domain}.${node.op}`;
  return `${op} "${nodeName(node)}"`;
}

/** A node's name, or that of its first output where it has none. */
export function nodeName(node: Node): string {
  return node.name || (node.outputs[0] ?? '');
}

/** Plain numbers, strings and arrays as attributes: integers become ints, {float: x} a float. */
export type AttributeInit = number | string | number[] | { float: number } | { tensor: Tensor };

export function attributesOf(init: Record<string, AttributeInit>): Map<string, Attribute> {
  const attributes = new Map<string, Attribute>();
  for (const [name, value] of Object.entries(init)) {
    if (typeof value === 'number') attributes.set(name, { kind: 'int', value });
    else if (typeof value === 'string') attributes.set(name, { kind: 'string', value });
    else if (Array.isArray(value)) attributes.set(name, { kind: 'ints', value });
    else if ('float' in value) attributes.set(name, { kind: 'float', value: value.float });
    else attributes.set(name, { kind: 'tensor', value: value.tensor });
  }
  return attributes;
}
