/** Prefixes tried out at import: what is broken behind a cache alone is found before anyone trains. */
import assert from 'node:assert/strict';
import { cpSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { importModel } from '../../src/lm/import.ts';
import { inspectDirectory } from '../../src/lm/inspect.ts';
import { tryPrefix } from '../../src/lm/trial-prefix.ts';
import { refusePrefix } from '../../src/models/past.ts';
import { readModel } from '../../src/onnx/decode.ts';
import { encodeModel } from '../../src/onnx/encode.ts';
import { attributesOf, type Graph } from '../../src/onnx/ir.ts';

const source = fileURLToPath(new URL('../fixtures/past/llama', import.meta.url));
const folder = mkdtempSync(join(tmpdir(), 'ptuned-prefix-'));
cpSync(source, folder, { recursive: true });
cpSync(join(source, 'model.onnx'), join(folder, 'weights.bin'));
cpSync('demo/models/demo-gpt2/tokenizer.json', join(folder, 'tokenizer.json'));
after(() => rmSync(folder, { recursive: true }));

function write(change: (graph: Graph) => void): void {
  const model = readModel(join(source, 'model.onnx'), 'weights.bin');
  change(model.graph);
  writeFileSync(join(folder, 'model.onnx'), encodeModel(model));
}

/** The past values of the first layer as something else reads them. */
function instead(op: string): (graph: Graph) => void {
  return (graph) => {
    const past = 'past_key_values.0.value';
    for (const node of graph.nodes) node.inputs = node.inputs.map((name) => (name === past ? 'changed' : name));
    graph.nodes.unshift({
      op,
      domain: '',
      name: 'change',
      inputs: [past],
      outputs: ['changed'],
      attributes: attributesOf({}),
    });
  };
}

test('a sound export takes a prefix', async () => {
  write(() => {});
  assert.equal(await tryPrefix(inspectDirectory(folder), 'lm'), null);
  const manifest = await importModel(folder, { id: 'lm' });
  assert.equal(manifest.prefixRefusal, undefined);
  assert.equal(refusePrefix(manifest), null);
});

test('a cache that is read wrongly is found at import; the LM trains in other ways', async () => {
  write(instead('Neg'));
  const manifest = await importModel(folder, { id: 'lm' });
  assert.match(
    manifest.prefixRefusal!,
    /behind the keys and values of a text "lm" does not go on .*the loss differs by/,
  );
  assert.equal(refusePrefix(manifest), manifest.prefixRefusal);
});
