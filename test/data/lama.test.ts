import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { test } from 'node:test';
import { checkDataset, planDataset } from '../../src/data/dataset.ts';
import { readWords } from '../../src/data/jsonl.ts';
import { loadTokenizer } from '../../src/tokenizer/load.ts';

const shared = resolve(import.meta.dirname, '../../../shared');

/** Facts that another implementation counted with the same LM, words and rule (../shared/models/README.md). */
const facts: [string, string, number][] = [
  ['P103', 'test', 919],
  ['P138', 'test', 429],
  ['P176', 'test', 252],
  ['P36', 'dev', 60],
];

test('LAMA has the facts that were counted elsewhere', {
  skip: existsSync(shared) ? false : '../shared is not here',
}, async () => {
  const tokenizer = await loadTokenizer(join(shared, 'models/smollm2-135m'));
  const plan = planDataset({
    model: { kind: 'causal', maxLength: 8192, vocabularySize: 49_152 },
    tokenizer,
    template: [{ virtual: 3 }, { field: 'sub_label' }, { virtual: 3 }, { target: 'obj_label' }],
    task: { type: 'cloze', drop_multi_token: true },
    allowedWords: await readWords(join(shared, 'data/lama/allowed-words.txt')),
  });
  assert.equal(plan.task.candidates.count, 15_683);
  for (const [relation, split, count] of facts) {
    const summary = await checkDataset(join(shared, `data/lama/${relation}/${split}.jsonl`), plan);
    assert.equal(summary.used, count, relation);
  }
});
