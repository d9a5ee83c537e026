/** What ships with the demo fits together: every row renders with the shipped tokenizers, and every target is one token. */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { Check } from 'typebox/value';
import { loadDataset, planDataset } from '../../src/data/dataset.ts';
import { readJsonl } from '../../src/data/jsonl.ts';
import { Template } from '../../src/tasks/schema.ts';
import { initialTokens, manualTemplate, virtualTokens } from '../../src/tasks/template.ts';
import { loadTokenizer } from '../../src/tokenizer/load.ts';

interface DemoTask {
  kind: 'masked' | 'causal';
  data: string;
  manual: string;
  p_tuning: { template: Template };
}

const demo = new URL('../../demo/', import.meta.url);
const tasks = readJson('data/tasks.json') as Record<string, DemoTask>;
const splits = ['train', 'dev', 'test'] as const;

function readJson(path: string): unknown {
  return JSON.parse(readFileSync(new URL(path, demo), 'utf8'));
}

function dataPath(task: DemoTask, split: string): string {
  return fileURLToPath(new URL(`data/${task.data}/${split}.jsonl`, demo));
}

async function openTask(model: string, task: DemoTask) {
  const config = readJson(`models/${model}/config.json`) as Record<string, number>;
  const maxLength = (config.n_positions ?? config.max_position_embeddings)!;
  const tokenizer = await loadTokenizer(fileURLToPath(new URL(`models/${model}`, demo)));
  const { template } = task.p_tuning;
  const about = { kind: task.kind, maxLength, vocabularySize: config.vocab_size! };
  return { tokenizer, template, plan: planDataset({ model: about, tokenizer, template, task: { type: 'cloze' } }) };
}

test('a task for each shipped LM, in the form the API takes', () => {
  assert.deepEqual(Object.keys(tasks).sort(), readdirSync(new URL('models/', demo)).sort());
  for (const [name, task] of Object.entries(tasks)) assert.ok(Check(Template, task.p_tuning.template), name);
});

for (const [model, task] of Object.entries(tasks)) {
  test(`${model}: every row renders whole, and its target is one token`, async () => {
    const { plan, template, tokenizer } = await openTask(model, task);
    for (const split of splits) {
      const path = dataPath(task, split);
      const lines = readFileSync(path, 'utf8').trimEnd().split('\n').length;
      const { rows, used, dropped, shortened } = await loadDataset(path, plan);
      assert.deepEqual({ split, used, dropped, shortened }, { split, used: lines, dropped: 0, shortened: 0 });
      for (const row of rows) {
        assert.deepEqual(
          row.slots.filter((slot) => slot >= 0),
          Array.from({ length: virtualTokens(template) }, (_, k) => k),
        );
        if (task.kind === 'masked') assert.equal(row.ids[row.target], tokenizer.special.mask);
        else assert.equal(row.target, row.ids.length - 1);
      }
    }
  });

  test(`${model}: the right candidate of a row is its target's word`, async () => {
    const { plan } = await openTask(model, task);
    const { rows } = await loadDataset(dataPath(task, 'test'), plan);
    let i = 0;
    for await (const { value } of readJsonl(dataPath(task, 'test'))) {
      assert.equal(plan.task.candidates.names[rows.at(i++)!.label], value[plan.target]);
    }
    assert.equal(i, rows.length);
  });

  test(`${model}: the pseudo tokens start from the words of the manual prompt that is shown`, async () => {
    const { template, tokenizer, plan } = await openTask(model, task);
    const words = manualTemplate(template);
    assert.notEqual(words, null);
    const shown = words!
      .map((segment) => ('text' in segment ? segment.text : 'field' in segment ? `{${segment.field}}` : '[MASK]'))
      .join(' ')
      .replace(/ \.$/, '.');
    assert.equal(task.kind === 'causal' ? shown.replace(/ \[MASK\]$/, '') : shown, task.manual);
    const started = initialTokens(template, tokenizer)!.filter((id) => id !== null);
    const { rows, manual } = await loadDataset(dataPath(task, 'test'), plan);
    // The same words stand in the manual prompt's rows, in the same order.
    for (const [r, row] of [...manual!].entries()) {
      const left = [...row.ids];
      for (const id of started) assert.ok(left.splice(0, left.indexOf(id) + 1).length > 0, `row ${r}, token ${id}`);
      assert.equal(row.label, rows.at(r)!.label);
    }
  });
}

test('held-out facts are not in the tuning data', async () => {
  for (const task of Object.values(tasks)) {
    const subjects = new Map<unknown, string>();
    for (const split of splits) {
      for await (const { value } of readJsonl(dataPath(task, split))) {
        const field = Object.keys(value).find((name) => name !== 'obj_label')!;
        assert.equal(subjects.get(value[field]), undefined, `${value[field]} is in ${split} and elsewhere`);
        subjects.set(value[field], split);
      }
    }
  }
});
