/** Encoder-decoder LMs: two files as one LM, what its decoder is given, and generation. */
import assert from 'node:assert/strict';
import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import type { PtunedError } from '../../src/errors.ts';
import { importModel } from '../../src/lm/import.ts';
import { inspectDirectory } from '../../src/lm/inspect.ts';
import { openLm } from '../../src/lm/open.ts';
import type { LmBatch } from '../../src/lm/types.ts';
import { isExternal } from '../../src/onnx/ir.ts';
import { readReference } from '../../src/tuning/reference.ts';
import { t5Fixture, t5Folder } from '../support/t5.ts';

test('encoder and decoder are one graph, and the word embeddings both files hold are in it once', () => {
  const lm = inspectDirectory(t5Fixture);
  assert.deepEqual(
    lm.files.map((file) => file.path),
    ['decoder_model_merged.onnx', 'encoder_model.onnx'],
  );
  assert.deepEqual(
    lm.inputs.map((input) => input.role),
    ['input_ids', 'attention_mask', 'decoder_input_ids'],
  );
  const tables = [...lm.model.graph.initializers].filter(([, { dims }]) => dims[0] === 48 && dims[1] === 16);
  assert.deepEqual(
    tables.map(([name]) => name),
    [lm.embedding.weight],
  );
  const { data } = tables[0]![1];
  assert.ok(isExternal(data) && data.location === 'encoder_model.onnx');
  assert.equal(
    lm.model.graph.nodes.filter((node) => node.op === 'Gather' && node.inputs[0] === lm.embedding.weight).length,
    2,
  );
});

test('sentinels of the tokenizer stand for what is asked, else its mask, else nothing', async () => {
  const sentinels = await importModel(t5Folder(['<extra_id_0>', '<extra_id_1>', '<mask>']), { id: 'one' });
  assert.equal(sentinels.kind, 'seq2seq');
  assert.deepEqual(sentinels.decoder, { start: [0], mark: 9, repeats: false, ends: [10] });
  assert.deepEqual(sentinels.files.map(({ path }) => path), ['decoder_model_merged.onnx', 'encoder_model.onnx']); // biome-ignore format: short
  const masked = await importModel(t5Folder(['<mask>'], { mask_token: '<mask>' }), { id: 'two' });
  assert.deepEqual(masked.decoder, { start: [0], mark: 9, repeats: true, ends: [] });
  const none = t5Folder([]);
  writeFileSync(join(none, 'generation_config.json'), JSON.stringify({ forced_bos_token_id: 6 }));
  assert.deepEqual((await importModel(none, { id: 'three' })).decoder, { start: [0, 6], mark: null, repeats: false, ends: [] }); // biome-ignore format: short
});

test('tokens that the export says are never generated are told, words of several are not', async () => {
  const folder = t5Folder([]);
  const stated = { bad_words_ids: [[0], [5, 6], [0]], suppress_tokens: [7, null] };
  writeFileSync(join(folder, 'generation_config.json'), JSON.stringify(stated));
  assert.deepEqual((await importModel(folder)).decoder?.never, [7, 0]);
});

test('a decoder without its encoder is refused', () => {
  const lonely = t5Folder([]);
  rmSync(join(lonely, 'encoder_model.onnx'));
  assert.throws(
    () => inspectDirectory(lonely),
    (error: PtunedError) => error.code === 'missing_file' && /no encoder_model.onnx.*encoder_hidden_states/.test(error.message),
  ); // biome-ignore format: one condition
});

async function openFixture() {
  const folder = t5Folder(['<extra_id_0>']);
  return openLm(await importModel(folder), { threads: 1, device: 'cpu' });
}

test('predictions are those of the training graph, and PyTorch’s', async () => {
  const lm = await openFixture();
  const predictor = await lm.predictor();
  const { batch, table, labels, loss } = await readReference(join(t5Fixture, 'reference.safetensors'));
  const logits = await predictor.logits(batch, table);
  const size = logits.length / batch.rows;
  let sum = 0;
  for (const [row, label] of labels.entries()) {
    const scores = logits.subarray(row * size, (row + 1) * size);
    const largest = Math.max(...scores);
    const total = scores.reduce((all, score) => all + Math.exp(score - largest), 0);
    sum += largest + Math.log(total) - scores[Number(label)]!;
  }
  assert.ok(Math.abs(sum / batch.rows / loss - 1) < 1e-5, `${sum / batch.rows} is not ${loss}`);
  await predictor.close();
  await lm.close();
});

/** One row of a batch without its padding. */
function rowOf(batch: LmBatch, row: number, answer: readonly bigint[]): LmBatch {
  const mask = batch.mask.subarray(row * batch.length, (row + 1) * batch.length);
  const length = mask.reduce((sum, one) => sum + Number(one), 0);
  const cut = (values: BigInt64Array) => values.slice(row * batch.length, row * batch.length + length);
  return {
    rows: 1,
    length,
    ids: cut(batch.ids),
    mask: cut(batch.mask),
    slots: cut(batch.slots),
    targets: BigInt64Array.of(BigInt(answer.length - 1)),
    decoder: { length: answer.length, ids: BigInt64Array.from(answer) },
  };
}

test('generation in a padded batch gives each row what it gets alone, whichever rows go on', async () => {
  const lm = await openFixture();
  const predictor = await lm.predictor();
  const { batch, table } = await readReference(join(t5Fixture, 'reference.safetensors'));
  const decoding = await predictor.decode(batch, table);
  const size = decoding.logits.length / batch.rows;
  const { length, ids } = batch.decoder!;
  const answers = Array.from(batch.targets, (target, row) => [
    ...ids.slice(row * length, row * length + Number(target) + 1),
  ]);
  const check = async () => {
    for (const [at, row] of decoding.rows.entries()) {
      const alone = await predictor.logits(rowOf(batch, row, answers[row]!), table);
      const found = decoding.logits.subarray(at * size, (at + 1) * size);
      const worst = Math.max(...found.map((score, i) => Math.abs(score - alone[i]!)));
      assert.ok(worst < 1e-3, `row ${row} differs by ${worst}`);
    }
  };
  await check();
  for (const [kept, tokens] of [
    [
      [0, 1, 2],
      [7, 8, 9],
    ],
    [
      [0, 2],
      [11, 12],
    ],
    [[2], [13]],
  ] as const) {
    // biome-ignore format: a table
    decoding.keep(kept);
    for (const [i, row] of kept.entries()) answers[row]!.push(BigInt(tokens[i]!));
    await decoding.advance(tokens);
    assert.deepEqual(decoding.rows, kept);
    await check();
  }
  await predictor.close();
  await lm.close();
});
