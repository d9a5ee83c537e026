import { create, fromBinary, type MessageInitShape } from '@bufbuild/protobuf';
import { emptyGraph } from '../../src/onnx/builder.ts';
import { symbol } from '../../src/onnx/dim.ts';
import { encodeModel } from '../../src/onnx/encode.ts';
import { attributesOf, type Graph, type Node } from '../../src/onnx/ir.ts';
import {
  type AttributeProtoSchema,
  FunctionProtoSchema,
  type GraphProtoSchema,
  type ModelProto,
  ModelProtoSchema,
  type NodeProto,
  NodeProtoSchema,
  type TensorProto,
  TensorProtoSchema,
} from '../../src/onnx/onnx_pb.ts';
import { tensorOf } from '../../src/onnx/types.ts';

const [vocabulary, width] = [8, 4];

/** ids -> table[ids] -> + their mean -> + 0 -> · W -> logits. */
function soundGraph(): Graph {
  const shape = [symbol('batch'), symbol('sequence')];
  const node = (op: string, inputs: string[], output: string): Node => ({
    op,
    domain: '',
    name: `/${output}/${op}`,
    inputs,
    outputs: [output],
    attributes: attributesOf({}),
  });
  const weights = (rows: number, columns: number) =>
    tensorOf(
      'float32',
      [rows, columns],
      Array.from({ length: rows * columns }, (_, i) => Math.sin(i)),
    );
  return {
    ...emptyGraph('lm'),
    inputs: ['input_ids', 'attention_mask'].map((name) => ({ name, dtype: 'int64', shape })),
    outputs: [{ name: 'logits', dtype: 'float32', shape: [...shape, vocabulary] }],
    initializers: new Map([
      ['table', weights(vocabulary, width)],
      ['head', weights(width, vocabulary)],
      ['zero', tensorOf('float32', [], [0])],
      ['axis', tensorOf('int64', [1], [1])],
    ]),
    nodes: [
      node('Gather', ['table', 'input_ids'], 'rows'),
      node('ReduceMean', ['rows', 'axis'], 'mean'),
      node('Add', ['rows', 'mean'], 'words'),
      node('Add', ['words', 'zero'], 'hidden'),
      node('MatMul', ['hidden', 'head'], 'logits'),
    ],
  };
}

export const config = { architectures: ['BertForMaskedLM'], vocab_size: vocabulary, num_hidden_layers: 2 };

/** The LM that every case changes. */
export function soundModel(): ModelProto {
  const model = { irVersion: 8, producer: 'test', opsets: new Map([['', 18]]), graph: soundGraph(), functions: [] };
  return fromBinary(ModelProtoSchema, encodeModel(model));
}

export type NodeInit = MessageInitShape<typeof NodeProtoSchema>;
export type AttributeInit = MessageInitShape<typeof AttributeProtoSchema>;

export const int = (name: string, i: bigint): AttributeInit => ({ name, type: 2, i });
export const ints = (name: string, values: bigint[]): AttributeInit => ({ name, type: 7, ints: values });
export const graph = (name: string, g: MessageInitShape<typeof GraphProtoSchema>): AttributeInit => ({
  name,
  type: 5,
  g,
});

export function int64Tensor(name: string, values: bigint[], dims = [BigInt(values.length)]): TensorProto {
  return create(TensorProtoSchema, { name, dims, dataType: 7, int64Data: values });
}

export const nodeOf = (init: NodeInit): NodeProto => create(NodeProtoSchema, init);

/** Puts nodes between the word embeddings and the product; the last yields "hidden". */
export function between(model: ModelProto, nodes: NodeInit[], tensors: TensorProto[] = []): void {
  const { node, initializer } = model.graph!;
  node.splice(3, 1, ...nodes.map(nodeOf));
  initializer.push(...tensors);
}

/** Makes a float of whatever an op yields off the gradient path, and adds it to the word embeddings. */
export function beside(model: ModelProto, nodes: NodeInit[], tensors: TensorProto[] = []): void {
  const sum: NodeInit[] = [
    { opType: 'Cast', input: ['beside'], output: ['float'], attribute: [int('to', 1n)] },
    { opType: 'ReduceMax', input: ['float'], output: ['most'], attribute: [int('keepdims', 0n)] },
    { opType: 'Mul', input: ['most', 'zero'], output: ['nothing'] },
    { opType: 'Add', input: ['words', 'nothing'], output: ['hidden'] },
  ];
  between(model, [...nodes, ...sum], tensors);
}

export const weight = (model: ModelProto, name = 'head') => model.graph!.initializer.find((one) => one.name === name)!;
export const node = (model: ModelProto, op: string) => model.graph!.node.find((one) => one.opType === op)!;

/** Moves the weights of `head` to a file of 128 bytes beside the model, as `entries` say. */
export function external(model: ModelProto, entries: Record<string, string>): void {
  const head = weight(model);
  head.rawData = new Uint8Array();
  head.dataLocation = 1;
  head.externalData = Object.entries({ location: 'weights.bin', ...entries }).map(([key, value]) => ({
    $typeName: 'onnx.StringStringEntryProto',
    key,
    value,
  }));
}

/** A value of as many dimensions, or of a shape, that no machine has room for. */
export function huge(model: ModelProto, op: 'ConstantOfShape' | 'Expand' | 'Tile' | 'Range', shape: bigint[]): void {
  const inputs: Record<typeof op, string[]> = {
    ConstantOfShape: ['shape'],
    Expand: ['zero', 'shape'],
    Tile: ['one', 'shape'],
    Range: ['from', 'to', 'step'],
  };
  const scalar = (name: string, value: bigint) => int64Tensor(name, [value], []);
  const one = create(TensorProtoSchema, { name: 'one', dims: shape.map(() => 1n), dataType: 1, floatData: [1] });
  const tensors = [int64Tensor('shape', shape), one, scalar('from', 0n), scalar('to', shape[0]!), scalar('step', 1n)];
  beside(model, [{ opType: op, input: inputs[op], output: ['beside'] }], tensors);
}

export const truth = create(TensorProtoSchema, { name: 'truth', dims: [], dataType: 9, int32Data: [1] });

export const typed = (name: string, elemType: number) => ({
  name,
  type: { value: { case: 'tensorType' as const, value: { elemType, shape: { dim: [] } } } },
});

export function loop(model: ModelProto, trips: bigint): void {
  const body = {
    name: 'body',
    input: [typed('i', 7), typed('go', 9), typed('state', 1)],
    output: ['going', 'next'].map((name) => ({ name })),
    node: [
      { opType: 'Identity', input: ['go'], output: ['going'] },
      { opType: 'Identity', input: ['state'], output: ['next'] },
    ],
  };
  const node = {
    opType: 'Loop',
    input: ['trips', 'truth', 'zero'],
    output: ['end'],
    attribute: [graph('body', body)],
  };
  const shaped: NodeInit = { opType: 'Reshape', input: ['end', 'axis'], output: ['beside'] };
  beside(model, [node, shaped], [int64Tensor('trips', [trips], []), truth]);
}

/** Functions that call each other `calls` times, the last one the first again where `circle`. */
export function functions(model: ModelProto, count: number, calls: number, circle: boolean): void {
  model.opsetImport.push({ $typeName: 'onnx.OperatorSetIdProto', domain: 'own', version: 1n });
  model.functions = Array.from({ length: count }, (_, i) => {
    const last = i === count - 1;
    const called = last && !circle ? { opType: 'Neg' } : { opType: `f${last ? 0 : i + 1}`, domain: 'own' };
    const names = Array.from({ length: calls + 1 }, (_, k) => (k === 0 ? 'x' : k === calls ? 'y' : `v${k}`));
    return create(FunctionProtoSchema, {
      name: `f${i}`,
      domain: 'own',
      input: ['x'],
      output: ['y'],
      opsetImport: model.opsetImport,
      node: names.slice(1).map((name, k) => ({ ...called, input: [names[k]!], output: [name] })),
    });
  });
  between(model, [{ opType: 'f0', domain: 'own', input: ['words'], output: ['hidden'] }]);
}
