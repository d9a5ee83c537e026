/** An LM whose word embeddings lie in a file of their own, beside a graph that takes inputs_embeds. */
import assert from 'node:assert/strict';
import { cpSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import type { PtunedError } from '../../src/errors.ts';
import { inspectDirectory } from '../../src/lm/inspect.ts';
import { readModel } from '../../src/onnx/decode.ts';
import { symbol } from '../../src/onnx/dim.ts';
import { encodeModel } from '../../src/onnx/encode.ts';
import { attributesOf, type Graph } from '../../src/onnx/ir.ts';
import { checkReference } from '../../src/tuning/reference.ts';

const source = fileURLToPath(new URL('../fixtures/llama', import.meta.url));
const folder = mkdtempSync(join(tmpdir(), 'ptuned-parts-'));
after(() => rmSync(folder, { recursive: true }));

/** The fixture in two files, as exports for inputs_embeds are; `name` is that of the embedding's. */
function split(name: string): void {
  rmSync(folder, { recursive: true, force: true });
  cpSync(source, folder, { recursive: true });
  cpSync(join(source, 'model.onnx'), join(folder, 'weights.bin'));
  const model = readModel(join(source, 'model.onnx'), 'weights.bin');
  const { graph } = model;
  const lookup = graph.nodes.find((node) => node.op === 'Gather' && node.inputs[1] === 'input_ids')!;
  const ids = graph.inputs.find((one) => one.name === 'input_ids')!;
  const rows = { name: 'inputs_embeds', dtype: 'float32' as const, shape: [symbol('batch'), symbol('sequence'), 16] };
  const table = lookup.inputs[0]!;
  const embedding: Graph = {
    name: 'embedding',
    inputs: [ids],
    outputs: [rows],
    initializers: new Map([[table, graph.initializers.get(table)!]]),
    nodes: [{ ...lookup, outputs: ['inputs_embeds'] }],
  };
  writeFileSync(join(folder, name), encodeModel({ ...model, graph: embedding }));
  const shape = { op: 'Shape', domain: '', name: 'ids_shape', inputs: ['inputs_embeds'], outputs: ['ids_shape'], attributes: attributesOf({ end: 2 }) }; // biome-ignore format: one node
  const nodes = graph.nodes.flatMap((node) => {
    if (node === lookup) return [];
    if (node.op === 'Shape' && node.inputs[0] === 'input_ids')
      return [{ ...node, op: 'Identity', inputs: ['ids_shape'] }];
    return [{ ...node, inputs: node.inputs.map((one) => (one === lookup.outputs[0] ? 'inputs_embeds' : one)) }];
  });
  const inputs = [rows, ...graph.inputs.filter((one) => one !== ids)];
  const rest: Graph = { ...graph, inputs, nodes: [shape, ...nodes] };
  writeFileSync(join(folder, 'model.onnx'), encodeModel({ ...model, graph: rest }));
}

for (const name of ['embed_tokens.onnx', 'embedding.onnx']) {
  test(`word embeddings in ${name}: the prompt is spliced behind them`, async () => {
    split(name);
    const lm = inspectDirectory(folder);
    assert.deepEqual(
      lm.files.map((file) => file.path),
      ['model.onnx', name],
    );
    assert.ok(!lm.inputs.some((input) => input.name === 'inputs_embeds'));
    const { lossError, gradientError } = await checkReference(folder);
    assert.ok(lossError < 1e-6 && gradientError < 1e-5, `loss ${lossError}, gradient ${gradientError}`);
  });
}

test('a graph for inputs_embeds without word embeddings beside it is refused, naming what was looked for', () => {
  split('other.onnx');
  assert.throws(
    () => inspectDirectory(folder),
    (error: PtunedError) =>
      error.code === 'missing_file' && /neither embed_tokens\.onnx nor .*takes "inputs_embeds"/.test(error.message),
  );
});
