/** Reading and writing ONNX: references into the file, and the round trip. */
import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { create, toBinary } from '@bufbuild/protobuf';
import { BinaryWriter, WireType } from '@bufbuild/protobuf/wire';
import { decodeModel, readModel } from '../../src/onnx/decode.ts';
import { dtypeName } from '../../src/onnx/dtype.ts';
import { encodeModel } from '../../src/onnx/encode.ts';
import { type Attribute, type Graph, isExternal, type Model, type Tensor } from '../../src/onnx/ir.ts';
import { TensorProtoSchema } from '../../src/onnx/onnx_pb.ts';
import { halfToNumber, numbersOf, numberToHalf, tensorOf } from '../../src/onnx/types.ts';

const fixtures = fileURLToPath(new URL('../fixtures', import.meta.url));
const folders = ['bert', 'gpt2', 'llama'];

for (const name of folders) {
  test(`${name}: weights left in the file are the bytes a full read finds`, () => {
    const path = join(fixtures, name, 'model.onnx');
    const bytes = readFileSync(path);
    const [skimmed, full] = [readModel(path, 'model.onnx'), decodeModel(bytes, 'model.onnx')];
    let external = 0;
    assert.deepEqual([...skimmed.graph.initializers.keys()], [...full.graph.initializers.keys()]);
    for (const [key, tensor] of skimmed.graph.initializers) {
      const expected = full.graph.initializers.get(key)!;
      assert.deepEqual([tensor.dtype, tensor.dims], [expected.dtype, expected.dims]);
      const { data } = tensor;
      const found = isExternal(data) ? bytes.subarray(data.offset, data.offset + data.length) : data;
      assert.ok(Buffer.from(expected.data as Uint8Array).equals(found), key);
      if (isExternal(data)) external++;
    }
    assert.ok(external >= 10, `${external} weights stay in the file`);
    assert.deepEqual(skimmed.graph.nodes.map(plainNode), full.graph.nodes.map(plainNode));
  });

  test(`${name}: encode and decode give the same model`, () => {
    const model = readModel(join(fixtures, name, 'model.onnx'), 'model.onnx');
    assert.deepEqual(plainModel(decodeModel(encodeModel(model), 'again')), plainModel(model));
  });
}

function plainNode(node: Graph['nodes'][number]): unknown {
  return { ...node, attributes: [...node.attributes].map(([key, value]) => [key, plainAttribute(value)]) };
}

function plainAttribute(attribute: Attribute): unknown {
  if (attribute.kind === 'graph') return plainGraph(attribute.value);
  return attribute.kind === 'tensor' ? plainTensor(attribute.value) : attribute;
}

function plainTensor(tensor: Tensor): unknown {
  return { ...tensor, data: isExternal(tensor.data) ? tensor.data : Buffer.from(tensor.data).toString('hex') };
}

function plainGraph(graph: Graph): unknown {
  return {
    ...graph,
    initializers: [...graph.initializers].map(([key, tensor]) => [key, plainTensor(tensor)]),
    nodes: graph.nodes.map(plainNode),
  };
}

function plainModel(model: Model): unknown {
  const functions = model.functions.map((one) => ({
    ...one,
    defaults: [...one.defaults].map(([key, value]) => [key, plainAttribute(value)]),
    nodes: one.nodes.map(plainNode),
  }));
  return { ...model, producer: '', graph: plainGraph(model.graph), functions };
}

test('every kind of attribute, subgraphs and functions survive the round trip', () => {
  const inner: Graph = { name: 'then', inputs: [], outputs: [], initializers: new Map(), nodes: [] };
  inner.initializers.set('c', tensorOf('int64', [2], [1, -2]));
  inner.outputs.push({ name: 'c', dtype: 'int64', shape: [2] });
  const attributes = new Map<string, Attribute>([
    ['int', { kind: 'int', value: -3 }],
    ['largest', { kind: 'ints', value: [-(2 ** 63), 2 ** 40] }],
    ['float', { kind: 'float', value: 0.5 }],
    ['floats', { kind: 'floats', value: [0.25, -1] }],
    ['string', { kind: 'string', value: 'né' }],
    ['strings', { kind: 'strings', value: ['a', ''] }],
    ['tensor', { kind: 'tensor', value: tensorOf('float16', [3], [1, 0.1, -2]) }],
    ['graph', { kind: 'graph', value: inner }],
    ['reference', { kind: 'reference', value: 'outer' }],
  ]);
  const node = { op: 'Any', domain: 'some.domain', name: 'n', inputs: ['', 'x'], outputs: ['y', ''], attributes };
  const model: Model = {
    irVersion: 10,
    producer: '',
    opsets: new Map([
      ['', 20],
      ['some.domain', 1],
    ]),
    graph: {
      name: 'g',
      inputs: [{ name: 'x', dtype: 'bfloat16', shape: null }],
      outputs: [{ name: 'y', dtype: 'bool', shape: [1] }],
      initializers: new Map(),
      nodes: [node],
    },
    functions: [
      { name: 'f', domain: 'some.domain', inputs: ['a'], outputs: ['b'], defaults: attributes, nodes: [node] },
    ],
  };
  const again = decodeModel(encodeModel(model), 'again');
  assert.deepEqual(plainModel(again), plainModel(model));
});

test('half precision converts both ways', () => {
  for (let half = 0; half < 0x10000; half++) {
    const number = halfToNumber(half);
    if (!Number.isNaN(number)) assert.equal(numberToHalf(number), half, `0x${half.toString(16)}`);
  }
  // Halfway cases go to the even neighbour; beyond the largest finite half lies infinity.
  assert.equal(numberToHalf(1 + 2 ** -11), 0x3c00);
  assert.equal(numberToHalf(1 + 3 * 2 ** -11), 0x3c02);
  assert.equal(halfToNumber(numberToHalf(70000)), Infinity);
  assert.equal(halfToNumber(numberToHalf(2 ** -24)), 2 ** -24);
  assert.ok(Number.isNaN(halfToNumber(numberToHalf(Number.NaN))));
});

test('elements of every numeric type are read', () => {
  for (const [code, bytes, expected] of [
    [2, [255], [255]],
    [3, [255], [-1]],
    [5, [0xff, 0xff], [-1]],
    [6, [1, 0, 0, 0], [1]],
    [7, [0xfe, 255, 255, 255, 255, 255, 255, 255], [-2]],
    [10, [0, 0x3c], [1]],
    [16, [0x80, 0x3f], [1]],
    [1, [0, 0, 0x80, 0x3f], [1]],
  ] as const) {
    const tensor = { dtype: dtypeName(code, 'test'), dims: [1], data: Uint8Array.from(bytes) };
    assert.deepEqual(numbersOf(tensor), expected, tensor.dtype);
  }
});

test('the fixtures folder holds what these tests name', () => {
  const found = new Set(readdirSync(fixtures));
  assert.ok(folders.every((name) => found.has(name)));
});

test('weights stay in the file also where it says of them that they are in it', () => {
  const folder = mkdtempSync(join(tmpdir(), 'ptuned-files-'));
  const values = tensorOf(
    'float32',
    [512],
    Array.from({ length: 512 }, (_, i) => i),
  );
  const proto = create(TensorProtoSchema, { name: 'w', dims: [512n], dataType: 1, rawData: values.data as Uint8Array });
  // As onnx writes a model whose weights it has loaded: data_location DEFAULT behind raw_data.
  const tensor = new BinaryWriter().raw(toBinary(TensorProtoSchema, proto)).tag(14, WireType.Varint).int32(0).finish();
  const graph = new BinaryWriter().tag(5, WireType.LengthDelimited).bytes(tensor).finish();
  const opset = new BinaryWriter().tag(2, WireType.Varint).int64(21).finish();
  const model = new BinaryWriter().tag(1, WireType.Varint).int64(10).tag(8, WireType.LengthDelimited).bytes(opset);
  const path = join(folder, 'model.onnx');
  writeFileSync(path, model.tag(7, WireType.LengthDelimited).bytes(graph).finish());
  const { data } = readModel(path, 'model.onnx').graph.initializers.get('w')!;
  assert.ok(isExternal(data));
  assert.deepEqual(
    readFileSync(path).subarray(data.offset, data.offset + data.length),
    Buffer.from(values.data as Uint8Array),
  );
  rmSync(folder, { recursive: true });
});
