/** When weights are packed: the rule, and that it reaches the runtime. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { promisify } from 'node:util';
import { families } from '../../scripts/lms/registry.ts';
import { writeLm } from '../../scripts/lms/write.ts';
import { mappedBytes, memoryLimit, prepackPays } from '../../src/onnx/prepack.ts';

const scratch = mkdtempSync(join(tmpdir(), 'ptuned-prepack-'));
after(() => rmSync(scratch, { recursive: true, force: true }));

const gigabyte = 2 ** 30;

test('weights are packed where their copies are a small part of the memory', () => {
  assert.equal(prepackPays(0.6 * gigabyte, 16 * gigabyte), true);
  assert.equal(prepackPays(0.6 * gigabyte, 4 * gigabyte), false);
  assert.equal(prepackPays(2.5 * gigabyte, 1024 * gigabyte), false);
  assert.ok(memoryLimit() > 0.1 * gigabyte && Number.isFinite(memoryLimit()));
});

test('only weights in files count', () => {
  const initializers = new Map([
    ['a', { dtype: 'float32' as const, dims: [4], data: { location: 'w', offset: 0, length: 16 } }],
    ['b', { dtype: 'float32' as const, dims: [1], data: new Uint8Array(4) }],
  ]);
  assert.equal(mappedBytes({ name: '', inputs: [], outputs: [], nodes: [], initializers }), 16);
});

/** Prints by how much the process's own memory, files left out, grows while a training session opens. */
const probe = (directory: string, prepack: boolean) => `
import { readFileSync } from 'node:fs';
const { inspectDirectory } = await import('./src/lm/inspect.ts');
const { trainProgram } = await import('./src/lm/programs.ts');
const { createSession } = await import('./src/onnx/session.ts');
const own = () => Number(/^RssAnon:\\s+(\\d+) kB/m.exec(readFileSync('/proc/self/status', 'utf8'))[1]) * 1024;
const lm = inspectDirectory(${JSON.stringify(directory)});
const candidates = { count: 2, width: 1, ids: Int32Array.of(0, 1), weights: Float32Array.of(1, 1), names: [] };
const { model } = trainProgram(lm, candidates);
const before = own();
await createSession(model, { threads: 1, device: 'cpu', directory: lm.graphDirectory, prepack: ${prepack} });
console.log(own() - before);
process.exit(0);
`;

test('without packing a session holds no copy of the weights, with it one and more', async () => {
  const shape = { layers: 4, hidden: 768, heads: 12, vocabulary: 300, positions: 64 };
  const { weightBytes } = writeLm(join(scratch, 'lm'), families.get('gpt2')!, { shape });
  const grown = async (prepack: boolean) => {
    const script = ['--import', 'tsx', '--input-type=module', '--eval', probe(join(scratch, 'lm'), prepack)];
    const { stdout } = await promisify(execFile)(process.execPath, script);
    return Number(stdout) / weightBytes;
  };
  const [mapped, packed] = [await grown(false), await grown(true)];
  assert.ok(mapped < 0.5, `mapped: ${mapped} times the weights`);
  assert.ok(packed > 1, `packed: ${packed} times the weights`);
});
