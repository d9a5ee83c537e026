/** Model files that somebody made to do harm, or that went wrong: each a small change to an LM that is in order. */
import { symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { create, toBinary } from '@bufbuild/protobuf';
import { type ModelProto, ModelProtoSchema, TensorProtoSchema } from '../../src/onnx/onnx_pb.ts';
import {
  type AttributeInit,
  beside,
  between,
  external,
  functions,
  graph,
  huge,
  int,
  int64Tensor,
  ints,
  loop,
  type NodeInit,
  node,
  nodeOf,
  soundModel,
  truth,
  weight,
} from './hostile-model.ts';

export interface HostileCase {
  name: string;
  /** Changes the model; or makes the file's bytes of it. */
  change(model: ModelProto, folder: string): unknown;
  /** What the refusal says. */
  says: RegExp;
  /** It would run for ever, or take all memory: to be imported in a child process only. */
  greedy?: true;
}

const far = 2n ** 62n;

const files: HostileCase[] = [
  { name: 'an empty file', change: () => new Uint8Array(), says: /not an ONNX file/ },
  { name: 'text', change: () => Buffer.from('hello '.repeat(400)), says: /not a/ },
  { name: 'a field of an unknown wire type', change: (model) => append(model, [0x0f]), says: /wire type|not an? / },
  { name: 'a length beyond the end', change: (model) => append(model, [0x3a, 0xff, 0xff, 0xff, 0x7f]), says: /not an? |claims/ },
  { name: 'a length of ten bytes', change: (model) => append(model, [0x3a, ...Array(9).fill(0xff), 1]), says: /not an? |claims/ },
  { name: 'the graph as a number', change: (model) => append(model, [0x38, 1]), says: /./ },
  { name: 'no graph', change: (model) => void (model.graph = undefined!), says: /no graph/ },
  { name: 'no opset', change: (model) => void (model.opsetImport = []), says: /no opset/ },
  { name: 'an opset of old', change: (model) => void (model.opsetImport[0]!.version = 7n), says: /opset 7; opsets 11 to 26/ },
  { name: 'an opset to come', change: (model) => void (model.opsetImport[0]!.version = 99n), says: /opset 99; opsets 11 to 26/ },
  { name: 'a negative opset', change: (model) => void (model.opsetImport[0]!.version = -1n), says: /opset -1/ },
]; // biome-ignore format: a table

function append(model: ModelProto, bytes: number[]): Uint8Array {
  return Buffer.concat([toBinary(ModelProtoSchema, model), Uint8Array.from(bytes)]);
}

const externals: HostileCase[] = [
  { name: 'weights in the parent folder', change: (model) => external(model, { location: '../weights.bin' }), says: /outside the model's folder/ },
  { name: 'weights through a folder and back', change: (model) => external(model, { location: 'a/../../weights.bin' }), says: /outside/ },
  { name: 'weights at an absolute path', change: (model) => external(model, { location: '/etc/passwd' }), says: /outside/ },
  { name: 'weights at a Windows path', change: (model) => external(model, { location: '..\\weights.bin' }), says: /outside/ },
  { name: 'weights behind a symlink that leads out', change: (model, folder) => link(model, folder, '/etc/passwd'), says: /outside/ },
  { name: 'weights in a folder behind a symlink', change: (model, folder) => link(model, folder, '/etc', 'link/passwd'), says: /outside/ },
  { name: 'weights in a folder', change: (model) => external(model, { location: '.' }), says: /not a file/ },
  { name: 'weights in a file that is not there', change: (model) => external(model, { location: 'absent.bin' }), says: /absent\.bin/ },
  { name: 'weights without a file', change: (model) => external(model, { location: '' }), says: /external data/ },
  { name: 'weights at a path with a NUL', change: (model) => external(model, { location: 'weights.bin\0x' }), says: /weights\.bin/ },
  { name: 'weights behind the end of their file', change: (model) => external(model, { offset: '4096' }), says: /has 128 bytes/ },
  { name: 'weights before their file', change: (model) => external(model, { offset: '-4' }), says: /offset -4/ },
  { name: 'an offset past every integer', change: (model) => external(model, { offset: '18446744073709551612' }), says: /offset/ },
  { name: 'an offset that is no number', change: (model) => external(model, { offset: 'x' }), says: /offset/ },
  { name: 'fewer weights than the shape has', change: (model) => external(model, { length: '12' }), says: /length 12/ },
  { name: 'negative weights', change: (model) => external(model, { length: '-128' }), says: /length -128/ },
]; // biome-ignore format: a table

function link(model: ModelProto, folder: string, target: string, location = 'link'): void {
  symlinkSync(target, join(folder, 'link'));
  external(model, { location });
}

const tensors: HostileCase[] = [
  { name: 'a negative dimension', change: (model) => void (weight(model).dims = [-4n, -8n]), says: /shape \[-4, -8\]/ },
  { name: 'huge dimensions and few bytes', change: (model) => void (weight(model).dims = [2n ** 40n, 2n ** 40n]), says: /shape|bytes/ },
  { name: 'dimensions past every integer', change: (model) => void (weight(model).dims = [far, 2n]), says: /shape/ },
  { name: 'many dimensions', change: (model) => void (weight(model).dims = Array(5000).fill(1n)), says: /./ },
  { name: 'fewer bytes than elements', change: (model) => void (weight(model).rawData = new Uint8Array(8)), says: /8 bytes, 128 expected/ },
  { name: 'an element type that is none', change: (model) => void (weight(model).dataType = 77), says: /element type 77/ },
  { name: 'weights that are strings', change: (model) => void (weight(model).dataType = 8), says: /string/ },
  { name: 'weights that are complex numbers', change: (model) => void (weight(model).dataType = 14), says: /element type 14/ },
  { name: 'weights that are integers', change: (model) => void (weight(model).dataType = 6), says: /./ },
  { name: 'two weights of one name', change: (model) => void model.graph!.initializer.push(weight(model)), says: /"head".*twice|twice.*"head"/ },
  { name: 'sparse weights', change: sparse, says: /sparse/ },
  { name: 'a word table of one dimension', change: (model) => void (weight(model, 'table').dims = [32n]), says: /word-embedding/ },
  { name: 'a word table without words', change: emptyTable, says: /./ },
]; // biome-ignore format: a table

/** Field 15 of a GraphProto, which onnx.proto here leaves out. */
function sparse(model: ModelProto): void {
  model.graph!.initializer = model.graph!.initializer.filter((one) => one.name !== 'head');
  model.graph!.$unknown = [{ no: 15, wireType: 2, data: Uint8Array.of(0) }];
}

function emptyTable(model: ModelProto): void {
  const table = weight(model, 'table');
  table.dims = [0n, 4n];
  table.rawData = new Uint8Array();
}

const graphs: HostileCase[] = [
  { name: 'a cycle', change: (model) => between(model, [{ opType: 'Add', input: ['words', 'b'], output: ['a'] }, { opType: 'Neg', input: ['a'], output: ['b'] }, { opType: 'Neg', input: ['b'], output: ['hidden'] }]), says: /reads "b"/ },
  { name: 'a node that reads itself', change: (model) => between(model, [{ opType: 'Add', input: ['words', 'hidden'], output: ['hidden'] }]), says: /reads "hidden"/ },
  { name: 'a value that nothing yields', change: (model) => void (node(model, 'MatMul').input[0] = 'ghost'), says: /reads "ghost"/ },
  { name: 'a value that two nodes yield', change: (model) => void model.graph!.node.push(nodeOf({ opType: 'Neg', input: ['words'], output: ['hidden'] })), says: /"hidden" a second time/ },
  { name: 'a node that yields a weight', change: (model) => between(model, [{ opType: 'Neg', input: ['words'], output: ['head'] }, { opType: 'Neg', input: ['words'], output: ['hidden'] }]), says: /"head" a second time/ },
  { name: 'two inputs of one name', change: (model) => void model.graph!.input.push(model.graph!.input[0]!), says: /same name/ },
  { name: 'an output that is not there', change: (model) => void (model.graph!.output[0]!.name = 'ghost'), says: /"ghost"/ },
  { name: 'no output', change: (model) => void (model.graph!.output = []), says: /logits/ },
  { name: 'no input', change: (model) => void (model.graph!.input = []), says: /input_ids/ },
  { name: 'an unknown input', change: (model) => void (model.graph!.input[1]!.name = 'pixels'), says: /"pixels"/ },
  { name: 'ids that are strings', change: (model) => stringIds(model), says: /./ },
  { name: 'an op that is none', change: (model) => between(model, [{ opType: 'Frobnicate', name: 'n1', input: ['words'], output: ['hidden'] }]), says: /Frobnicate "n1".*node 4 of 5, about layer 2 of 2.*opset 18/ },
  { name: 'an op of an unknown domain', change: (model) => between(model, [{ opType: 'Add', domain: 'evil', input: ['words', 'zero'], output: ['hidden'] }]), says: /evil\.Add/ },
  { name: 'an op without inputs', change: (model) => between(model, [{ opType: 'Add', output: ['hidden'] }]), says: /lacks its input 0/ },
  { name: 'an attribute of another kind', change: (model) => between(model, [{ opType: 'Softmax', input: ['words'], output: ['hidden'], attribute: [{ name: 'axis', type: 3, s: Buffer.from('x') }] }]), says: /axis is of kind string/ },
  { name: 'an attribute of no kind', change: (model) => between(model, [{ opType: 'Softmax', input: ['words'], output: ['hidden'], attribute: [{ name: 'axis', type: 99 }] }]), says: /type 99/ },
  { name: 'an axis out of range', change: (model) => between(model, [{ opType: 'Softmax', input: ['words'], output: ['hidden'], attribute: [int('axis', 99n)] }]), says: /axis 99/ },
  { name: 'a permutation that is none', change: (model) => between(model, [{ opType: 'Transpose', input: ['words'], output: ['hidden'], attribute: [ints('perm', [0n, 0n, 9n])] }]), says: /./ },
  { name: 'a shape of a million dimensions', change: (model) => between(model, [{ opType: 'Reshape', input: ['words', 'shape'], output: ['hidden'] }], [int64Tensor('shape', Array(100_000).fill(1n))]), says: /dimensions|rank/ },
  { name: 'a product that does not fit', change: (model) => void (weight(model).dims = [8n, 4n]), says: /./ },
  { name: 'blocks of no elements', change: zeroBlocks, says: /./ },
]; // biome-ignore format: a table

function stringIds(model: ModelProto): void {
  const { type } = model.graph!.input[0]!;
  if (type?.value.case === 'tensorType') type.value.value.elemType = 8;
}

function zeroBlocks(model: ModelProto): void {
  const bytes = create(TensorProtoSchema, {
    name: 'bytes',
    dims: [4n, 1n, 8n],
    dataType: 2,
    rawData: new Uint8Array(32),
  });
  const scales = create(TensorProtoSchema, { name: 'scales', dims: [4n], dataType: 1, floatData: [1, 1, 1, 1] });
  model.opsetImport.push({ $typeName: 'onnx.OperatorSetIdProto', domain: 'com.microsoft', version: 1n });
  const attribute = [int('K', 4n), int('N', 4n), int('bits', 4n), int('block_size', 0n)];
  const input = ['words', 'bytes', 'scales'];
  between(
    model,
    [{ opType: 'MatMulNBits', domain: 'com.microsoft', input, output: ['hidden'], attribute }],
    [bytes, scales],
  );
}

const recursions: HostileCase[] = [
  { name: 'subgraphs in each other, 200 deep', change: (model) => between(model, [deepChain(200)], [truth]), says: /nested/ },
  { name: 'a function that calls itself', change: (model) => functions(model, 1, 1, true), says: /too deeply/ },
  { name: 'functions in a circle', change: (model) => functions(model, 5, 1, true), says: /too deeply/ },
  { name: 'functions that double twenty times', change: (model) => functions(model, 20, 2, false), says: /too deeply/ },
]; // biome-ignore format: a table

/** Subgraphs in each other, in one branch alone: the other one is empty. */
function deepChain(deep: number): NodeInit {
  let inner: NodeInit = { opType: 'Neg', input: ['words'], output: ['hidden'] };
  for (let i = 0; i < deep; i++) {
    const attribute: AttributeInit[] = [
      graph('then_branch', { name: 'branch', node: [inner], output: [{ name: 'hidden' }] }),
      graph('else_branch', { name: 'other', output: [{ name: 'words' }] }),
    ];
    inner = { opType: 'If', input: ['truth'], output: ['hidden'], attribute };
  }
  return inner;
}

const sizes: HostileCase[] = [
  { name: 'ConstantOfShape past all memory', change: (model) => huge(model, 'ConstantOfShape', [2n ** 20n, 2n ** 20n]), says: /memory/ },
  { name: 'ConstantOfShape past every integer', change: (model) => huge(model, 'ConstantOfShape', [far, far]), says: /./ },
  { name: 'ConstantOfShape of negative size', change: (model) => huge(model, 'ConstantOfShape', [-3n]), says: /./ },
  { name: 'Expand past all memory', change: (model) => huge(model, 'Expand', [2n ** 20n, 2n ** 20n]), says: /memory/ },
  { name: 'Tile past all memory', change: (model) => huge(model, 'Tile', [2n ** 20n, 2n ** 20n]), says: /memory|bytes/ },
  { name: 'Range past all memory', change: (model) => huge(model, 'Range', [2n ** 40n]), says: /memory/ },
  { name: 'ConstantOfShape past the limit', change: (model) => huge(model, 'ConstantOfShape', [2n ** 31n]), says: /memory/, greedy: true },
  { name: 'a loop without end', change: (model) => loop(model, 2n ** 62n), says: /longer than/, greedy: true },
]; // biome-ignore format: a table

/** (batch + sequence) squared forty times: written out, a polynomial of 2⁴⁰ terms. Harmless when it is not. */
export function squaring(model: ModelProto): void {
  const at = (name: string, index: string): NodeInit => ({ opType: 'Gather', input: ['s', index], output: [name] });
  const nodes: NodeInit[] = [
    { opType: 'Shape', input: ['input_ids'], output: ['s'] },
    at('batch', 'first'),
    at('sequence', 'axis'),
    { opType: 'Add', input: ['batch', 'sequence'], output: ['d0'] },
    ...Array.from({ length: 40 }, (_, i) => ({ opType: 'Mul', input: [`d${i}`, `d${i}`], output: [`d${i + 1}`] })),
    { opType: 'Identity', input: ['d40'], output: ['beside'] },
  ];
  beside(model, nodes, [int64Tensor('first', [0n])]);
}

export const hostileCases: readonly HostileCase[] = [files, externals, tensors, graphs, recursions, sizes].flat();

/** Writes the case's files. */
export function writeHostile(one: HostileCase, folder: string): void {
  const model = soundModel();
  writeFileSync(join(folder, 'weights.bin'), new Uint8Array(128));
  const bytes = one.change(model, folder);
  writeFileSync(join(folder, 'model.onnx'), bytes instanceof Uint8Array ? bytes : toBinary(ModelProtoSchema, model));
}
