/** The tiny T5 of test/fixtures with a tokenizer of its own. */
import { cpSync, mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { inspectDirectory } from '../../src/lm/inspect.ts';
import { prepareModel } from '../../src/lm/prepare.ts';
import { readModel } from '../../src/onnx/decode.ts';
import { encodeModel } from '../../src/onnx/encode.ts';
import { isExternal, type Tensor } from '../../src/onnx/ir.ts';
import { tensorOf } from '../../src/onnx/types.ts';

export const t5Fixture = fileURLToPath(new URL('../fixtures/t5', import.meta.url));
const scratch = mkdtempSync(join(tmpdir(), 'ptuned-seq2seq-'));
process.on('exit', () => rmSync(scratch, { recursive: true, force: true }));

const vocabulary = ['<pad>', '</s>', '<unk>', 'the', 'capital', 'of', 'is', 'Oslo', 'Norway'];
const vocabularySize = 48;

let copies = 0;
/** A folder with the LM and a word-level tokenizer that has these special tokens besides, and a word for every other id. */
export function t5Folder(more: readonly string[], config: object = {}): string {
  const folder = join(scratch, `t5-${copies++}`);
  cpSync(t5Fixture, folder, { recursive: true });
  const words = [...vocabulary, ...more];
  while (words.length < vocabularySize) words.push(`word${words.length}`);
  const vocab = Object.fromEntries(words.map((token, id) => [token, id]));
  const added = ['<pad>', '</s>', '<unk>', ...more].map((content) => ({ id: vocab[content], content, special: true, single_word: false, lstrip: false, rstrip: false, normalized: false })); // biome-ignore format: one record
  const single = [{ Sequence: { id: 'A', type_id: 0 } }, { SpecialToken: { id: '</s>', type_id: 0 } }];
  const special_tokens = { '</s>': { id: '</s>', ids: [1], tokens: ['</s>'] } };
  const tokenizer = {
    added_tokens: added,
    normalizer: null,
    pre_tokenizer: { type: 'WhitespaceSplit' },
    post_processor: { type: 'TemplateProcessing', single, pair: single, special_tokens },
    decoder: null,
    model: { type: 'WordLevel', vocab, unk_token: '<unk>' },
  };
  writeFileSync(join(folder, 'tokenizer.json'), JSON.stringify(tokenizer));
  const named = {
    pad_token: '<pad>',
    eos_token: '</s>',
    unk_token: '<unk>',
    tokenizer_class: 'T5Tokenizer',
    ...config,
  };
  writeFileSync(join(folder, 'tokenizer_config.json'), JSON.stringify(named));
  return folder;
}

/** The folder's merged decoder as two files, as exports that are not merged have them; weights in a file of their own. */
export function splitDecoder(folder: string): void {
  const merged = join(folder, 'decoder_model_merged.onnx');
  const read = readModel(merged, 'decoder.bin');
  renameSync(merged, join(folder, 'decoder.bin'));
  for (const [name, cached] of [
    ['decoder_model.onnx', 0],
    ['decoder_with_past_model.onnx', 1],
  ] as const) {
    // biome-ignore format: a table
    const inputs = read.graph.inputs.filter((one) => one.name !== 'use_cache_branch');
    const initializers = new Map(read.graph.initializers).set('use_cache_branch', tensorOf('bool', [1], [cached]));
    const { graph, ...model } = prepareModel({ ...read, graph: { ...read.graph, inputs, initializers } });
    const needed = new Set(graph.nodes.flatMap((node) => node.inputs));
    const taken = graph.inputs.filter((one) => needed.has(one.name));
    writeFileSync(join(folder, name), encodeModel({ ...model, graph: { ...graph, inputs: taken } }));
  }
}

/** A graph whose attention is another: it runs, and says something else. */
export function changeAttention(path: string): void {
  const model = readModel(path, basename(path));
  const nodes = model.graph.nodes.map((node) =>
    node.op === 'Softmax' ? { ...node, op: 'Sigmoid', attributes: new Map() } : node,
  );
  writeFileSync(path, encodeModel({ ...model, graph: { ...model.graph, nodes } }));
}

/** The folder's two files as one graph without a cache, as an export of one piece has it. */
export function joinFiles(folder: string): void {
  const { graph, ...model } = inspectDirectory(folder).model;
  renameSync(join(folder, 'decoder_model_merged.onnx'), join(folder, 'decoder.bin'));
  renameSync(join(folder, 'encoder_model.onnx'), join(folder, 'encoder.bin'));
  const moved = new Map(
    [...graph.initializers].map(([name, tensor]) => [name, { ...tensor, data: movedTo(tensor.data) }]),
  );
  const outputs = graph.outputs.filter((one) => one.name === 'logits');
  writeFileSync(
    join(folder, 'model.onnx'),
    encodeModel({ ...model, graph: { ...graph, outputs, initializers: moved } }),
  );
}

function movedTo(data: Tensor['data']): Tensor['data'] {
  if (!isExternal(data)) return data;
  return { ...data, location: data.location.startsWith('encoder') ? 'encoder.bin' : 'decoder.bin' };
}
