/** Protobuf to IR. */
import { fromBinary } from '@bufbuild/protobuf';
import { PtunedError } from '../errors.ts';
import { type Dim, symbol, unknownDim } from './dim.ts';
import { byteSize, type DType, dtypeName } from './dtype.ts';
import {
  type Attribute,
  type ExternalData,
  elementCount,
  type Graph,
  type Model,
  type Node,
  type Tensor,
  type ValueInfo,
} from './ir.ts';
import {
  type AttributeProto,
  type GraphProto,
  type ModelProto,
  ModelProtoSchema,
  type NodeProto,
  type TensorProto,
  TensorProtoSchema,
  type ValueInfoProto,
} from './onnx_pb.ts';
import { skimModel } from './skim.ts';

/** The graph of an ONNX file, weights left in it. @throws PtunedError damaged_model */
export function readModel(path: string, location: string): Model {
  return decodeModel(skimModel(path, location), location);
}

/** IR of serialized ONNX. `location` names the file in messages. @throws PtunedError damaged_model */
export function decodeModel(bytes: Uint8Array, location: string): Model {
  let proto: ModelProto;
  try {
    proto = fromBinary(ModelProtoSchema, bytes);
  } catch (error) {
    throw new PtunedError('damaged_model', `${location} is not an ONNX file: ${(error as Error).message}.`, {
      cause: error,
    });
  }
  if (proto.graph === undefined || proto.opsetImport.length === 0) {
    throw new PtunedError(
      'damaged_model',
      `${location} is not an ONNX file: it has no ${proto.graph === undefined ? 'graph' : 'opset'}.`,
    );
  }
  return {
    irVersion: Number(proto.irVersion),
    producer: `${proto.producerName} ${proto.producerVersion}`.trim(),
    opsets: new Map(proto.opsetImport.map((opset) => [normalDomain(opset.domain), Number(opset.version)])),
    graph: decodeGraph(proto.graph),
    functions: proto.functions.map((one) => ({
      name: one.name,
      domain: normalDomain(one.domain),
      inputs: one.input,
      outputs: one.output,
      defaults: new Map(one.attributeProto.map((attribute) => [attribute.name, decodeAttribute(attribute, one.name)])),
      nodes: one.node.map(decodeNode),
    })),
  };
}

function normalDomain(domain: string): string {
  return domain === 'ai.onnx' ? '' : domain;
}

/** Of a GraphProto; onnx.proto here leaves it out. */
const sparseInitializerField = 15;

function decodeGraph(proto: GraphProto): Graph {
  const initializers = new Map<string, Tensor>();
  if (proto.$unknown?.some(({ no }) => no === sparseInitializerField))
    throw new PtunedError('import_refused', `Graph "${proto.name}" has sparse weights; dense ones are accepted.`);
  for (const one of proto.initializer) {
    if (initializers.has(one.name))
      throw new PtunedError('damaged_model', `Graph "${proto.name}" has the weight "${one.name}" twice.`);
    initializers.set(one.name, decodeTensor(one));
  }
  return {
    name: proto.name,
    // Old exports list initializers among the inputs.
    inputs: proto.input.filter((one) => !initializers.has(one.name)).map(decodeValueInfo),
    outputs: proto.output.map(decodeValueInfo),
    initializers,
    nodes: proto.node.map(decodeNode),
  };
}

function decodeValueInfo(proto: ValueInfoProto): ValueInfo {
  const type = proto.type?.value;
  if (type?.case !== 'tensorType' || type.value.elemType === 0)
    return { name: proto.name, dtype: 'float32', shape: null, untyped: true };
  const dims = type.value.shape?.dim.map((dim): Dim => {
    if (dim.value.case === 'dimValue') return Number(dim.value.value);
    return dim.value.case === 'dimParam' && dim.value.value !== '' ? symbol(dim.value.value) : unknownDim();
  });
  return { name: proto.name, dtype: dtypeName(type.value.elemType, `Value "${proto.name}"`), shape: dims ?? null };
}

function decodeNode(proto: NodeProto): Node {
  return {
    op: proto.opType,
    domain: normalDomain(proto.domain),
    name: proto.name,
    inputs: proto.input,
    outputs: proto.output,
    attributes: new Map(
      proto.attribute.map((one) => [one.name, decodeAttribute(one, `${proto.opType} "${proto.name}"`)]),
    ),
  };
}

const utf8 = new TextDecoder();

function decodeAttribute(proto: AttributeProto, where: string): Attribute {
  if (proto.refAttrName !== '') return { kind: 'reference', value: proto.refAttrName };
  switch (proto.type) {
    case 1:
      return { kind: 'float', value: proto.f };
    case 2:
      return { kind: 'int', value: Number(proto.i) };
    case 3:
      return { kind: 'string', value: utf8.decode(proto.s) };
    case 4:
      if (proto.t !== undefined) return { kind: 'tensor', value: decodeTensor(proto.t) };
      break;
    case 5:
      if (proto.g !== undefined) return { kind: 'graph', value: decodeGraph(proto.g) };
      break;
    case 6:
      return { kind: 'floats', value: proto.floats };
    case 7:
      return { kind: 'ints', value: proto.ints.map(Number) };
    case 8:
      return { kind: 'strings', value: proto.strings.map((one) => utf8.decode(one)) };
  }
  throw new PtunedError(
    'damaged_model',
    `Attribute ${proto.name} of ${where} has type ${proto.type}, which is not supported.`,
  );
}

/** A tensor in a file of its own, as ONNX's test data have them. @throws PtunedError damaged_model */
export function decodeTensorFile(bytes: Uint8Array, location: string): { name: string; tensor: Tensor } {
  try {
    const proto = fromBinary(TensorProtoSchema, bytes);
    return { name: proto.name, tensor: decodeTensor(proto) };
  } catch (error) {
    if (error instanceof PtunedError) throw error;
    const message = `${location} is not a tensor: ${(error as Error).message}.`;
    throw new PtunedError('damaged_model', message, { cause: error });
  }
}

function decodeTensor(proto: TensorProto): Tensor {
  const dtype = dtypeName(proto.dataType, `Tensor "${proto.name}"`);
  const dims = proto.dims.map(Number);
  if (!dims.every((dim) => Number.isSafeInteger(dim) && dim >= 0))
    throw new PtunedError('damaged_model', `Tensor "${proto.name}" has the shape [${dims.join(', ')}].`);
  if (proto.dataLocation === 1) return { dtype, dims, data: externalData(proto) };
  const expected = byteSize(dtype, elementCount(dims));
  const data = proto.rawData.length > 0 ? proto.rawData : typedFields(proto, dtype);
  if (data.length !== expected && dtype !== 'string') {
    throw new PtunedError(
      'damaged_model',
      `Tensor "${proto.name}" [${dims.join(', ')}] of ${dtype} has ${data.length} bytes, ${expected} expected.`,
    );
  }
  return { dtype, dims, data };
}

function externalData(proto: TensorProto): ExternalData {
  const entries = new Map(proto.externalData.map((one) => [one.key, one.value]));
  const location = entries.get('location');
  const dtype = dtypeName(proto.dataType, `Tensor "${proto.name}"`);
  const expected = byteSize(dtype, elementCount(proto.dims.map(Number)));
  const offset = Number(entries.get('offset') ?? 0);
  const length = Number(entries.get('length') ?? expected);
  if (!location || !Number.isSafeInteger(offset) || offset < 0 || length !== expected) {
    throw new PtunedError(
      'damaged_model',
      `Tensor "${proto.name}" refers to external data "${location}", offset ${offset}, length ${length}; ${expected} bytes expected.`,
    );
  }
  return { location, offset, length };
}

function typedFields(proto: TensorProto, dtype: DType): Uint8Array {
  switch (dtype) {
    case 'float32':
      return bytesOf(new Float32Array(proto.floatData));
    case 'float64':
      return bytesOf(new Float64Array(proto.doubleData));
    case 'int64':
      return bytesOf(new BigInt64Array(proto.int64Data));
    case 'uint64':
      return bytesOf(new BigUint64Array(proto.uint64Data));
    case 'uint32':
      return bytesOf(new Uint32Array(proto.uint64Data.map(Number)));
    case 'int32':
      return bytesOf(new Int32Array(proto.int32Data));
    case 'int16':
    case 'uint16':
    case 'float16':
    case 'bfloat16':
      return bytesOf(new Uint16Array(proto.int32Data));
    case 'string':
      return new Uint8Array();
    default:
      return new Uint8Array(proto.int32Data);
  }
}

function bytesOf(view: ArrayBufferView): Uint8Array {
  return new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
}
