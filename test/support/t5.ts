/** The tiny T5 of test/fixtures with a tokenizer of its own. */
import { cpSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const t5Fixture = fileURLToPath(new URL('../fixtures/t5', import.meta.url));
const scratch = mkdtempSync(join(tmpdir(), 'ptuned-seq2seq-'));
process.on('exit', () => rmSync(scratch, { recursive: true, force: true }));

const vocabulary = ['<pad>', '</s>', '<unk>', 'the', 'capital', 'of', 'is', 'Oslo', 'Norway'];

let copies = 0;
/** A folder with the LM and a word-level tokenizer that has these special tokens besides. */
export function t5Folder(more: readonly string[], config: object = {}): string {
  const folder = join(scratch, `t5-${copies++}`);
  cpSync(t5Fixture, folder, { recursive: true });
  const vocab = Object.fromEntries([...vocabulary, ...more].map((token, id) => [token, id]));
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
