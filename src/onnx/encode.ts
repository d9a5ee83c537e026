/** IR to protobuf. */
import { create, type MessageInitShape, toBinary } from '@bufbuild/protobuf';
import { type Dim, dimKey } from './dim.ts';
import { dtypeCode } from './dtype.ts';
import { type Attribute, type Graph, isExternal, type Model, type Node, type Tensor, type ValueInfo } from './ir.ts';
import {
  type AttributeProtoSchema,
  type GraphProtoSchema,
  ModelProtoSchema,
  type NodeProtoSchema,
  type TensorProtoSchema,
  type TypeProtoSchema,
  type ValueInfoProtoSchema,
} from './onnx_pb.ts';

/** Serialized ONNX of a model; external tensors stay references. */
export function encodeModel(model: Model): Uint8Array {
  const proto = create(ModelProtoSchema, {
    irVersion: BigInt(Math.max(model.irVersion, 8)),
    producerName: 'ptuned',
    graph: graphInit(model.graph),
    opsetImport: [...model.opsets].map(([domain, version]) => ({ domain, version: BigInt(version) })),
    functions: model.functions.map((one) => ({
      name: one.name,
      domain: one.domain,
      input: one.inputs,
      output: one.outputs,
      attributeProto: [...one.defaults].map(([name, attribute]) => attributeInit(name, attribute)),
      node: one.nodes.map(nodeInit),
      opsetImport: [...model.opsets].map(([domain, version]) => ({ domain, version: BigInt(version) })),
    })),
  });
  return toBinary(ModelProtoSchema, proto);
}

function graphInit(graph: Graph): MessageInitShape<typeof GraphProtoSchema> {
  return {
    name: graph.name || 'graph',
    input: graph.inputs.map(valueInit),
    output: graph.outputs.map(valueInit),
    valueInfo: graph.values?.map(valueInit) ?? [],
    initializer: [...graph.initializers].map(([name, tensor]) => tensorInit(tensor, name)),
    node: graph.nodes.map(nodeInit),
  };
}

function valueInit(value: ValueInfo): MessageInitShape<typeof ValueInfoProtoSchema> {
  if (value.untyped) return { name: value.name };
  return { name: value.name, type: { value: { case: 'tensorType', value: tensorType(value) } } };
}

function tensorType(value: ValueInfo): TensorTypeInit {
  const elemType = dtypeCode(value.dtype);
  return value.shape === null ? { elemType } : { elemType, shape: { dim: value.shape.map(dimInit) } };
}

type TensorTypeInit = Extract<
  NonNullable<MessageInitShape<typeof TypeProtoSchema>['value']>,
  { case: 'tensorType' }
>['value'];

function dimInit(dim: Dim) {
  if (typeof dim === 'number') return { value: { case: 'dimValue' as const, value: BigInt(dim) } };
  const key = dimKey(dim);
  return key.startsWith('?') ? {} : { value: { case: 'dimParam' as const, value: key } };
}

function nodeInit(node: Node): MessageInitShape<typeof NodeProtoSchema> {
  return {
    opType: node.op,
    domain: node.domain,
    name: node.name,
    input: node.inputs,
    output: node.outputs,
    attribute: [...node.attributes].map(([name, attribute]) => attributeInit(name, attribute)),
  };
}

const utf8 = new TextEncoder();

function attributeInit(name: string, attribute: Attribute): MessageInitShape<typeof AttributeProtoSchema> {
  switch (attribute.kind) {
    case 'float':
      return { name, type: 1, f: attribute.value };
    case 'int':
      return { name, type: 2, i: toInt64(attribute.value) };
    case 'string':
      return { name, type: 3, s: utf8.encode(attribute.value) };
    case 'tensor':
      return { name, type: 4, t: tensorInit(attribute.value, '') };
    case 'graph':
      return { name, type: 5, g: graphInit(attribute.value) };
    case 'floats':
      return { name, type: 6, floats: attribute.value };
    case 'ints':
      return { name, type: 7, ints: attribute.value.map(toInt64) };
    case 'strings':
      return { name, type: 8, strings: attribute.value.map((one) => utf8.encode(one)) };
    case 'reference':
      return { name, refAttrName: attribute.value };
  }
}

/** INT64_MAX ("to the end") is not a JS integer: clamp instead of wrapping. */
function toInt64(value: number): bigint {
  if (value >= 2 ** 63) return 2n ** 63n - 1n;
  if (value <= -(2 ** 63)) return -(2n ** 63n);
  return BigInt(value);
}

function tensorInit(tensor: Tensor, name: string): MessageInitShape<typeof TensorProtoSchema> {
  const head = { name, dims: tensor.dims.map(BigInt), dataType: dtypeCode(tensor.dtype) };
  if (!isExternal(tensor.data)) return { ...head, rawData: tensor.data };
  const { location, offset, length } = tensor.data;
  const externalData = Object.entries({ location, offset, length }).map(([key, value]) => ({
    key,
    value: String(value),
  }));
  return { ...head, externalData, dataLocation: 1 };
}
