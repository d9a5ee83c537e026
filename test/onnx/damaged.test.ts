/** Cut, altered and hostile files: always a PtunedError, never a crash, a hang, or memory out of proportion. */
import assert from 'node:assert/strict';
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { PtunedError } from '../../src/errors.ts';
import { inspectDirectory } from '../../src/lm/inspect.ts';
import { trainProgram } from '../../src/lm/programs.ts';
import { decodeModel, readModel } from '../../src/onnx/decode.ts';
import { encodeModel } from '../../src/onnx/encode.ts';
import { tensorOf } from '../../src/onnx/types.ts';

const source = fileURLToPath(new URL('../fixtures/bert', import.meta.url));
const whole = readFileSync(join(source, 'model.onnx'));
const folder = mkdtempSync(join(tmpdir(), 'ptuned-damaged-'));
const path = join(folder, 'model.onnx');
cpSync(join(source, 'config.json'), join(folder, 'config.json'));
after(() => rmSync(folder, { recursive: true }));

let state = 7;
const random = (limit: number) => (state = (state * 48271) % 0x7fffffff) % limit;
const candidates = { count: 2, width: 1, ids: Int32Array.of(5, 6), weights: Float32Array.of(1, 1), names: [] };

/** The whole way from a file to a training graph. Codes of failures that are the file's. */
function load(bytes: Uint8Array): string {
  writeFileSync(path, bytes);
  try {
    trainProgram(inspectDirectory(folder), candidates);
    return 'ok';
  } catch (error) {
    if (error instanceof PtunedError && error.code !== 'internal') return error.code;
    throw error;
  }
}

test('the whole file loads', () => assert.equal(load(whole), 'ok'));

test('a file cut anywhere is refused as damaged', () => {
  for (let i = 0; i < 200; i++) {
    const length = random(whole.length - 1);
    assert.equal(load(whole.subarray(0, length)), 'damaged_model', `cut after ${length} bytes`);
  }
});

test('a file with altered bytes either loads or is refused', () => {
  let refused = 0;
  for (let i = 0; i < 200; i++) {
    const bytes = Uint8Array.from(whole);
    for (let k = 0; k <= i % 4; k++) bytes[random(bytes.length)] = random(256);
    if (load(bytes) !== 'ok') refused++;
  }
  assert.ok(refused > 0, 'some of the alterations must matter');
});

test('random bytes are refused', () => {
  for (let i = 0; i < 50; i++)
    assert.equal(load(Uint8Array.from({ length: 3000 }, () => random(256))), 'damaged_model');
});

test('text, an empty file and a file of another format are refused', () => {
  for (const bytes of [new Uint8Array(0), Buffer.from('not a model\n'.repeat(200)), whole.subarray(5)])
    assert.equal(load(bytes), 'damaged_model');
});

test('a tensor must have as many bytes as its shape says, and its external data must be where it says', () => {
  writeFileSync(path, whole);
  const model = readModel(path, 'model.onnx');
  const name = [...model.graph.initializers.keys()][0]!;
  const refusal = (tensor: Parameters<typeof model.graph.initializers.set>[1]) => {
    const initializers = new Map(model.graph.initializers).set(name, tensor);
    try {
      decodeModel(encodeModel({ ...model, graph: { ...model.graph, initializers } }), 'model.onnx');
      return 'ok';
    } catch (error) {
      return (error as PtunedError).code;
    }
  };
  const { data } = tensorOf('float32', [2, 2], [1, 2, 3, 4]);
  assert.equal(refusal({ dtype: 'float32', dims: [2, 2], data }), 'ok');
  assert.equal(refusal({ dtype: 'float32', dims: [2, 3], data }), 'damaged_model');
  assert.equal(refusal({ dtype: 'float32', dims: [-2, -2], data }), 'damaged_model');
  assert.equal(refusal({ dtype: 'float32', dims: [2 ** 52, 2 ** 52], data }), 'damaged_model');
  const at = (offset: number, length: number) => ({ location: 'model.onnx', offset, length });
  assert.equal(refusal({ dtype: 'float32', dims: [4], data: at(0, 16) }), 'ok');
  assert.equal(refusal({ dtype: 'float32', dims: [4], data: at(0, 12) }), 'damaged_model');
  assert.equal(refusal({ dtype: 'float32', dims: [4], data: at(-4, 16) }), 'damaged_model');
});

test('external data outside the folder, missing or too short is refused', () => {
  writeFileSync(path, whole);
  const model = readModel(path, 'model.onnx');
  const name = [...model.graph.initializers].find(([, tensor]) => tensor.dtype === 'float32')![0];
  const tensor = (location: string, offset = 0) => ({
    dtype: 'float32' as const,
    dims: [4],
    data: { location, offset, length: 16 },
  });
  const code = (location: string, offset?: number) => {
    const initializers = new Map(model.graph.initializers).set(name, tensor(location, offset));
    return load(encodeModel({ ...model, graph: { ...model.graph, initializers } }));
  };
  assert.equal(code('/etc/passwd'), 'import_refused');
  assert.equal(code('../weights'), 'import_refused');
  assert.equal(code('sub/../../weights'), 'import_refused');
  assert.equal(code('absent.bin'), 'missing_file');
  writeFileSync(join(folder, 'short.bin'), new Uint8Array(20));
  assert.equal(code('short.bin', 8), 'damaged_model');
});
