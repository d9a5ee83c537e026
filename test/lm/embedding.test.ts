/** Word-embedding lookups as exporters hide them: the prompt must land in its slots. */
import assert from 'node:assert/strict';
import { cpSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import type { PtunedError } from '../../src/errors.ts';
import { importModel } from '../../src/lm/import.ts';
import { inspectDirectory } from '../../src/lm/inspect.ts';
import { openLm } from '../../src/lm/open.ts';
import { trainProgram } from '../../src/lm/programs.ts';
import { openProgram, trainerOn } from '../../src/lm/run-program.ts';
import { readModel } from '../../src/onnx/decode.ts';
import { encodeModel } from '../../src/onnx/encode.ts';
import { attributesOf, type Graph, type Node } from '../../src/onnx/ir.ts';
import { tensorOf } from '../../src/onnx/types.ts';
import { checkReference, readReference, vocabularyCandidates } from '../../src/tuning/reference.ts';

const source = fileURLToPath(new URL('../fixtures/bert', import.meta.url));
const folder = mkdtempSync(join(tmpdir(), 'ptuned-embedding-'));
cpSync(source, folder, { recursive: true });
// The changed graph takes the name model.onnx; its weights stay in the file as exported.
cpSync(join(source, 'model.onnx'), join(folder, 'weights.bin'));
after(() => rmSync(folder, { recursive: true }));

function node(op: string, inputs: string[], outputs: string[], attributes = {}): Node {
  return { op, domain: '', name: `test/${outputs[0]}`, inputs, outputs, attributes: attributesOf(attributes) };
}

function isLookup(one: Node): boolean {
  return one.op === 'Gather' && one.inputs[1] === 'input_ids' && /word_embeddings/.test(one.inputs[0]!);
}

/** Writes the LM with nodes before its lookup (they yield "ids") and after it (they read "rows"). */
function write(before: Node[], behind: (output: string) => Node[], change: (graph: Graph) => void = () => {}): void {
  const model = readModel(join(source, 'model.onnx'), 'weights.bin');
  const { graph } = model;
  assert.equal(graph.nodes.filter(isLookup).length, 1);
  graph.nodes = graph.nodes.flatMap((one) =>
    isLookup(one)
      ? [...before, { ...one, inputs: [one.inputs[0]!, 'ids'], outputs: ['rows'] }, ...behind(one.outputs[0]!)]
      : [one],
  );
  graph.initializers.set('minus', tensorOf('int64', [1], [-1]));
  graph.initializers.set('zero', tensorOf('int64', [1], [0]));
  graph.initializers.set('two', tensorOf('int64', [1], [2]));
  graph.initializers.set('end', tensorOf('int64', [1], [2 ** 62]));
  graph.initializers.set('one', tensorOf('int64', [1], [1]));
  change(graph);
  writeFileSync(join(folder, 'model.onnx'), encodeModel(model));
}

/** Rows [batch · sequence, width] to the shape of the ids and a width. */
const unflatten = (output: string): Node[] => [
  node('Shape', ['input_ids'], ['dims']),
  node('Concat', ['dims', 'minus'], ['nested'], { axis: 0 }),
  node('Reshape', ['rows', 'nested'], [output]),
];

const ways: [string, Node[], (output: string) => Node[]][] = [
  ['as it is', [node('Identity', ['input_ids'], ['ids'])], (output) => [node('Identity', ['rows'], [output])]],
  ['cast', [node('Cast', ['input_ids'], ['ids'], { to: 6 })], (output) => [node('Identity', ['rows'], [output])]],
  ['flattened', [node('Reshape', ['input_ids', 'minus'], ['ids'])], unflatten],
  ['flattened by Flatten', [node('Flatten', ['input_ids'], ['flat'], { axis: 0 }), node('Squeeze', ['flat', 'zero'], ['ids'])], unflatten],
  ['transposed', [node('Transpose', ['input_ids'], ['ids'], { perm: [1, 0] })], (output) => [node('Transpose', ['rows'], [output], { perm: [1, 0, 2] })]],
  [
    'transposed, cast and flattened',
    [node('Transpose', ['input_ids'], ['turned'], { perm: [1, 0] }), node('Cast', ['turned'], ['small'], { to: 6 }), node('Reshape', ['small', 'minus'], ['ids'])],
    (output) => [
      node('Shape', ['turned'], ['dims']),
      node('Concat', ['dims', 'minus'], ['nested'], { axis: 0 }),
      node('Reshape', ['rows', 'nested'], ['sequence_first']),
      node('Transpose', ['sequence_first'], [output], { perm: [1, 0, 2] }),
    ],
  ],
  ['unsqueezed', [node('Unsqueeze', ['input_ids', 'two'], ['ids'])], (output) => [node('Squeeze', ['rows', 'two'], [output])]],
  ['sliced', [node('Slice', ['input_ids', 'zero', 'end', 'one'], ['ids'])], (output) => [node('Identity', ['rows'], [output])]],
]; // biome-ignore format: a table

for (const [name, before, behind] of ways) {
  test(`ids ${name} on their way to the lookup`, async () => {
    write(before, behind);
    const { lossError, gradientError } = await checkReference(folder);
    assert.ok(lossError < 1e-6 && gradientError < 1e-5, `loss ${lossError}, gradient ${gradientError}`);
  });
}

function refusal(embedding?: string): PtunedError {
  try {
    inspectDirectory(folder, { embedding });
  } catch (error) {
    return error as PtunedError;
  }
  throw new Error('not refused');
}

test('no lookup is refused, saying what was seen', () => {
  write([node('Mul', ['input_ids', 'one'], ['ids'])], (output) => [node('Identity', ['rows'], [output])]);
  const { code, message } = refusal();
  assert.equal(code, 'import_refused');
  assert.match(
    message,
    /not found: seen .*Gather ".*" of .*word_embeddings\.weight \[48, 16\] by "ids".*--embedding NODE/,
  );
});

test('ids that arithmetic changes in their places lead to a lookup that is named', async () => {
  const clipped = [node('Add', ['input_ids', 'one'], ['next']), node('Sub', ['next', 'one'], ['ids'])];
  write(clipped, (output) => [node('Identity', ['rows'], [output])]);
  assert.match(refusal().message, /not found/);
  const found = inspectDirectory(folder, { embedding: nameOf('rows') });
  assert.equal(found.embedding.weight, graphTable());
  const { lossError, gradientError } = await checkReference(folder, { embedding: nameOf('rows') });
  assert.ok(lossError < 1e-6 && gradientError < 1e-5, `loss ${lossError}, gradient ${gradientError}`);
});

test('a name that is no lookup by ids is refused, listing those there are', () => {
  write([node('Identity', ['input_ids'], ['ids'])], (output) => [node('Identity', ['rows'], [output])]);
  assert.match(
    refusal('nowhere').message,
    /"nowhere" is no lookup.*seen .*word_embeddings\.weight \[48, 16\] by input_ids/,
  );
  const positions = readModel(join(source, 'model.onnx'), 'weights.bin').graph.nodes.find((one) => one.op === 'Gather' && /position_embeddings/.test(one.inputs[0]!))!; // biome-ignore format: one search
  assert.match(refusal(positions.name).message, /is no lookup/);
});

test('two lookups are refused, naming both; the option says which one it is', async () => {
  const same = node('Identity', ['input_ids'], ['ids']);
  write([same], (output) => [
    node('Gather', [graphTable(), 'ids'], ['rows2']),
    node('Add', ['rows', 'rows2'], [output]),
  ]);
  const { code, message } = refusal();
  assert.equal(code, 'import_refused');
  assert.match(message, /found 2 times.*test\/rows2/);
  const id = 'chosen';
  cpSync(
    fileURLToPath(new URL('../../demo/models/demo-bert/tokenizer.json', import.meta.url)),
    join(folder, 'tokenizer.json'),
  );
  const [first, second] = await Promise.all(
    [nameOf('rows'), 'test/rows2'].map((embedding) => importModel(folder, { id, embedding })),
  );
  assert.deepEqual([first!.embedding.node, second!.embedding.node], [nameOf('rows'), 'test/rows2']);
  assert.notEqual(first!.hash, second!.hash, 'a prompt for one is none for the other');
  const lm = await openLm(second!, { threads: 1, device: 'cpu' });
  assert.equal((await lm.embeddings([5])).length, 16);
  await lm.close();
});

/** Name of the node that yields a value of the changed graph. */
function nameOf(output: string): string {
  const { nodes } = readModel(join(folder, 'model.onnx'), 'model.onnx').graph;
  return nodes.find((one) => one.outputs.includes(output))!.name;
}

function graphTable(): string {
  return readModel(join(source, 'model.onnx'), 'weights.bin').graph.nodes.find(isLookup)!.inputs[0]!;
}

/** Positions as RoBERTa counts them: ids that are not padding, so that a padding id in a slot would move the others. */
function countPositions(graph: Graph): void {
  const positions = graph.nodes.find((one) => one.op === 'Gather' && /position_embeddings/.test(one.inputs[0]!))!;
  const counting = [
    node('Equal', ['input_ids', 'padding'], ['is_padding']),
    node('Not', ['is_padding'], ['is_token']),
    node('Cast', ['is_token'], ['tokens'], { to: 7 }),
    node('CumSum', ['tokens', 'along'], ['counted']),
    node('Mul', ['counted', 'tokens'], ['numbered']),
    node('Sub', ['numbered', 'tokens'], ['positions']),
  ];
  graph.initializers.set('padding', tensorOf('int64', [], [0]));
  graph.initializers.set('along', tensorOf('int64', [], [1]));
  graph.nodes = graph.nodes.flatMap((one) =>
    one === positions ? [...counting, { ...one, inputs: [one.inputs[0]!, 'positions'] }] : [one],
  );
}

test('positions counted from ids: pseudo tokens count like words in a padded batch, if their id is not that of padding', async () => {
  write([node('Identity', ['input_ids'], ['ids'])], (output) => [node('Identity', ['rows'], [output])], countPositions);
  const { lossError, gradientError } = await checkReference(folder);
  assert.ok(lossError < 1e-6 && gradientError < 1e-5, `loss ${lossError}, gradient ${gradientError}`);
  const lm = inspectDirectory(folder);
  const { batch, table, labels } = await readReference(join(folder, 'reference.safetensors'));
  assert.ok(batch.mask.includes(0n));
  const trainer = trainerOn(
    await openProgram(trainProgram(lm, vocabularyCandidates(48)), { threads: 1, device: 'cpu', directory: folder }),
  );
  const step = (ids: BigInt64Array) => trainer.step({ ...batch, ids }, labels, table);
  const loss = async (id: bigint) => (await step(batch.ids.map((one, i) => (batch.slots[i]! < 0n ? one : id)))).loss;
  const [words, others, padding] = [await loss(7n), await loss(30n), await loss(0n)];
  await trainer.close();
  assert.equal(words, others, 'which word stands there changes nothing');
  assert.ok(Math.abs(words - padding) > 1e-4, 'padding does');
});

test('a lookup that nothing needs does not count', () => {
  write([node('Identity', ['input_ids'], ['ids'])], (output) => [
    node('Identity', ['rows'], [output]),
    node('Gather', [graphTable(), 'ids'], ['unused']),
    node('Shape', ['unused'], ['unused_shape']),
  ]);
  assert.equal(inspectDirectory(folder).embedding.width, 16);
});
