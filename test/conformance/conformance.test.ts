/** The conformance run on a folder in the layout of ONNX's backend node tests. */
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { create, toBinary } from '@bufbuild/protobuf';
import { emptyGraph } from '../../src/onnx/builder.ts';
import { encodeModel } from '../../src/onnx/encode.ts';
import { attributesOf, type Graph } from '../../src/onnx/ir.ts';
import { TensorProtoSchema } from '../../src/onnx/onnx_pb.ts';
import { tensorOf } from '../../src/onnx/types.ts';
import { compareCase } from './compare-case.ts';
import { readNodeTests } from './node-tests.ts';
import { failureLines, tableLines } from './table.ts';

const folder = mkdtempSync(join(tmpdir(), 'ptuned-conformance-'));
after(() => rmSync(folder, { recursive: true }));

function tensorFile(name: string, values: number[]): Uint8Array {
  const { data } = tensorOf('float32', [values.length], values);
  const proto = { name, dims: [BigInt(values.length)], dataType: 1, rawData: data as Uint8Array };
  return toBinary(TensorProtoSchema, create(TensorProtoSchema, proto));
}

function write(name: string, op: string, opset: number, input: number[], output: number[]): void {
  const value = (of: string) => ({ name: of, dtype: 'float32' as const, shape: [input.length] });
  const node = { op, domain: '', name: '', inputs: ['x'], outputs: ['y'], attributes: attributesOf({}) };
  const graph: Graph = { ...emptyGraph(name), inputs: [value('x')], outputs: [value('y')], nodes: [node] };
  const data = join(folder, name, 'test_data_set_0');
  mkdirSync(data, { recursive: true });
  const model = { irVersion: 8, producer: '', opsets: new Map([['', opset]]), graph, functions: [] };
  writeFileSync(join(folder, name, 'model.onnx'), encodeModel(model));
  writeFileSync(join(data, 'input_0.pb'), tensorFile('x', input));
  writeFileSync(join(data, 'output_0.pb'), tensorFile('y', output));
}

test('reads the folders, compares results and gradients, and tells what it left out', async () => {
  write('test_relu', 'Relu', 14, [-1, 0, 2], [0, 0, 2]);
  write('test_exp', 'Exp', 13, [0, 1], [1, Math.E]);
  write('test_old', 'Relu', 6, [1], [1]);
  write('test_other', 'Det', 11, [1, 2], [0, 1]);
  const { cases, skipped } = readNodeTests(folder);
  assert.deepEqual([...skipped].sort(), [
    ['opset below 11', 1],
    ['refused by its record: Det', 1],
  ]);
  const results = await Promise.all(cases.map(compareCase));
  assert.deepEqual(
    results.map(({ name, failures, elements, kinks }) => [name, failures, elements, kinks]),
    [
      ['test_exp', [], 2, 0],
      ['test_relu', [], 3, 1],
    ],
  );
  assert.equal(tableLines(results).length, 3);
  assert.deepEqual(failureLines(results, true), []);
});

test('a shape or element that inference has wrong, or a rule that fails, is a failure', async () => {
  write('test_exp', 'Exp', 13, [0, 1], [1, Math.E]);
  const [one] = readNodeTests(folder).cases.filter(({ name }) => name === 'test_exp');
  const wrong = { bindings: new Map(), shapeOf: () => [3] };
  const result = await compareCase({ ...one!, knowledge: [[wrong]] });
  assert.ok(result.failures.length > 0);
  assert.match(failureLines([result], false)[0]!, /^failed: Exp test_exp: /);
});
