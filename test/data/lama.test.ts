/** Real data and real LMs' tokenizers, where they lie beside the checkout: counts that another implementation published. */
import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { test } from 'node:test';
import { type LoadedDataset, loadDataset, planDataset } from '../../src/data/dataset.ts';
import { readWords } from '../../src/data/jsonl.ts';
import type { Template } from '../../src/tasks/schema.ts';
import { loadTokenizer } from '../../src/tokenizer/load.ts';

const shared = resolve(import.meta.dirname, '../../../shared');
const skip = existsSync(join(shared, 'data/lama')) ? false : '../shared is not here';

/** Facts of the test split (dev where there is none) whose object is one token of SmolLM2 after a space and allowed. */
const facts: Record<string, number> = {
  P19: 731,
  P30: 200,
  P36: 60,
  P37: 60,
  P101: 570,
  P103: 919,
  P138: 429,
  P176: 252,
  P407: 857,
  P413: 97,
  P495: 905,
  P1412: 924,
};

/** Share of the facts that always answering the commonest training object gets right, in percent, with trex-bert's vocabulary. */
const commonest: Record<string, string> = {
  P19: '8.5',
  P30: '96.0',
  P36: '0.0',
  P37: '44.3',
  P101: '16.0',
  P103: '60.5',
  P138: '3.0',
  P176: '9.9',
  P407: '46.9',
  P413: '45.1',
  P495: '11.0',
  P1412: '20.9',
};

async function planFor(model: string, kind: 'masked' | 'causal', template: Template, allowedWords: string[] | null) {
  const directory = join(shared, 'models', model);
  const config = JSON.parse(readFileSync(join(directory, 'config.json'), 'utf8')) as Record<string, number>;
  return planDataset({
    model: { kind, maxLength: config.max_position_embeddings!, vocabularySize: config.vocab_size! },
    tokenizer: await loadTokenizer(directory),
    template,
    task: { type: 'cloze', drop_multi_token: true },
    allowedWords,
  });
}

function pathOf(relation: string, split: 'train' | 'held out'): string {
  const path = (name: string) => join(shared, 'data/lama', relation, `${name}.jsonl`);
  if (split === 'train') return path('train');
  return existsSync(path('test')) ? path('test') : path('dev');
}

function shareOfCommonest(train: LoadedDataset, heldOut: LoadedDataset): number {
  const counts = new Map<number, number>();
  for (const { label } of train.rows) counts.set(label, (counts.get(label) ?? 0) + 1);
  const [label] = [...counts].sort((a, b) => b[1] - a[1])[0]!;
  return (100 * [...heldOut.rows].filter((row) => row.label === label).length) / heldOut.used;
}

test('SmolLM2: the facts of 12 relations and the allowed words that were counted elsewhere', { skip }, async () => {
  const template = [{ virtual: 3 }, { field: 'sub_label' }, { virtual: 3 }, { target: 'obj_label' }];
  const words = await readWords(join(shared, 'data/lama/allowed-words.txt'));
  const plan = await planFor('smollm2-135m', 'causal', template, words);
  assert.equal(plan.task.candidates.count, 15_683);
  for (const [relation, count] of Object.entries(facts)) {
    const path = pathOf(relation, 'held out');
    const { used, dropped, shortened } = await loadDataset(path, plan);
    const lines = readFileSync(path, 'utf8').trimEnd().split('\n').length;
    assert.deepEqual(
      { relation, used, dropped, shortened },
      { relation, used: count, dropped: lines - count, shortened: 0 },
    );
  }
});

test('trex-bert: the facts of 12 relations, by what the commonest object scores on them', { skip }, async () => {
  const template = [{ virtual: 3 }, { target: 'obj_label' }, { virtual: 3 }, { field: 'sub_label' }, { virtual: 3 }];
  const plan = await planFor('trex-bert', 'masked', template, null);
  for (const [relation, expected] of Object.entries(commonest)) {
    const train = await loadDataset(pathOf(relation, 'train'), plan);
    const heldOut = await loadDataset(pathOf(relation, 'held out'), plan);
    assert.equal(shareOfCommonest(train, heldOut).toFixed(1), expected, relation);
  }
});
