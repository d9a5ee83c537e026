/** The methods beside P-tuning over HTTP with the official SDK: tuned, refused, and asked together. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import OpenAI, { BadRequestError } from 'openai';
import type { Job } from '../../scripts/demo/client.ts';
import { isFinal, startTestService, type TestService } from '../support/service.ts';

type Row = { sub_label: string; obj_label: string };
const rowsOf = (split: string): Row[] =>
  readFileSync(`demo/data/capital/${split}.jsonl`, 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Row);

const worded = [{ text: 'The capital of' }, { field: 'sub_label' }, { text: 'is' }, { target: 'obj_label' }];
const slotted = [{ virtual: 3 }, { field: 'sub_label' }, { virtual: 3 }, { target: 'obj_label' }];

describe('methods beside P-tuning', () => {
  let service: TestService;
  let openai: OpenAI;
  const files: Record<string, string> = {};
  /** Tuned models by method. */
  const models: Record<string, string> = {};

  before(async () => {
    service = await startTestService();
    openai = new OpenAI({ baseURL: `${service.url}/v1`, apiKey: 'none' });
    for (const id of ['demo-bert', 'demo-gpt2'])
      await service.client.registerModel(join(process.cwd(), 'demo/models', id), id);
    for (const split of ['train', 'dev', 'test'])
      files[split] = await service.client.upload(`demo/data/capital/${split}.jsonl`);
  });
  after(() => service.remove());

  async function create(model: string, type: string, parts: Record<string, unknown>) {
    const { id } = await openai.fineTuning.jobs.create({
      model,
      training_file: files.train!,
      validation_file: files.dev!,
      // Methods and test_file are extensions, which the SDK's types do not know.
      ...({ test_file: files.test, method: { type, [type]: parts } } as object),
    });
    return id;
  }

  async function tune(model: string, type: string, parts: Record<string, unknown>): Promise<Job> {
    const job = await service.waitFor(await create(model, type, parts), isFinal);
    assert.equal(job.status, 'succeeded', JSON.stringify(job.error));
    models[type] ??= job.fine_tuned_model!;
    return job;
  }

  test('prefix_tuning beats the template alone, which is its manual prompt', async () => {
    const { result } = await tune('demo-gpt2', 'prefix_tuning', {
      template: worded,
      hyperparameters: { max_steps: 80 },
    });
    const { manual, tuned } = result!;
    assert.ok(tuned.test!.p_at_1! >= manual!.test!.p_at_1! + 0.3, JSON.stringify(result));
  });

  test('prompt_tuning learns from tokens of the vocabulary', async () => {
    const { result } = await tune('demo-gpt2', 'prompt_tuning', {
      template: slotted,
      hyperparameters: { max_steps: 120 },
    });
    assert.ok(result!.tuned.test!.p_at_1! > 0.9, JSON.stringify(result));
  });

  test('autoprompt finds words, which are told', async () => {
    const template = [{ virtual: 2 }, { field: 'sub_label' }, { virtual: 1 }, { target: 'obj_label' }];
    const job = await tune('demo-gpt2', 'autoprompt', {
      template,
      hyperparameters: { max_steps: 12, evaluate_every: 6 },
    });
    const { words } = job.result as unknown as { words: string[] };
    assert.equal(words.length, 3);
    assert.ok(!words.some((word) => word === ''));
    const { data } = await openai.fineTuning.jobs.listEvents(job.id);
    assert.ok(data.some(({ message }) => message.includes('words: ')));
  });

  test('a prefix classifies', async () => {
    const lines = rowsOf('train').slice(0, 40);
    const text = lines.map(({ sub_label }, i) => JSON.stringify({ sub_label, kind: i % 2 === 0 ? 'a' : 'b' }));
    const training_file = await service.uploadText(text.join('\n'));
    const template = [{ field: 'sub_label' }, { text: 'is' }, { target: 'kind' }];
    const prefix_tuning = {
      template,
      task: { type: 'classification', labels: { a: 'Oslo', b: 'Rome' } },
      hyperparameters: { max_steps: 5 },
    };
    const { body } = await service.send('POST', '/v1/fine_tuning/jobs', {
      model: 'demo-gpt2',
      training_file,
      method: { type: 'prefix_tuning', prefix_tuning },
    });
    const { fine_tuned_model: model, error } = await service.waitFor(body.id!, isFinal);
    assert.notEqual(model, null, JSON.stringify(error));
    const answer = await service.send('POST', '/v1/classifications', { model, inputs: [{ sub_label: 'Norway' }] });
    const [{ scores }] = answer.body.data as [{ scores: Record<string, number> }];
    assert.ok(Math.abs(scores.a! + scores.b! - 1) < 1e-5);
  });

  test('prompts of all methods and the base LM asked together answer as each alone', async () => {
    const rows = rowsOf('test').slice(0, 8);
    type Asked = OpenAI.CompletionCreateParamsNonStreaming;
    const asked: Asked[] = rows.flatMap(({ sub_label }) => [
      ...Object.values(models).flatMap((model) =>
        [1, 5].map((max_tokens) => ({ model, prompt: { sub_label } as never, max_tokens, logprobs: 1 })),
      ),
      { model: 'demo-gpt2', prompt: `The capital of ${sub_label} is`, max_tokens: 5, temperature: 0 },
    ]);
    const ask = async (one: Asked) => (await openai.completions.create(one)).choices[0]!.text;
    const alone: string[] = [];
    for (const one of asked) alone.push(await ask(one));
    assert.deepEqual(await Promise.all(asked.map(ask)), alone);
    const right = asked.filter(
      ({ model, max_tokens }, i) =>
        model === models.prefix_tuning && max_tokens === 1 && alone[i]!.trim() === rows[Math.floor(i / 7)]!.obj_label,
    );
    assert.ok(right.length >= 6, `${right.length} of 8 capitals`);
  });

  test('what does not go together is refused by name', async () => {
    const refused = async (model: string, type: string, parts: object): Promise<BadRequestError> => {
      try {
        await create(model, type, parts as Record<string, unknown>);
      } catch (error) {
        assert.ok(error instanceof BadRequestError, String(error));
        return error;
      }
      throw new Error('it was accepted');
    };
    const masked = await refused('demo-bert', 'prefix_tuning', { template: worded });
    assert.deepEqual([masked.code, masked.param], ['wrong_model_kind', 'model']);
    assert.match(masked.message, /"demo-bert" is a masked LM.*--task text-generation-with-past/);
    const both = await refused('demo-gpt2', 'prefix_tuning', { template: slotted });
    assert.deepEqual([both.code, both.param], ['invalid_template', 'method.prefix_tuning.template']);
    assert.match(both.message, /\{"virtual": n\} segments beside a prefix/);
    const none = await refused('demo-gpt2', 'autoprompt', { template: worded });
    assert.deepEqual([none.code, none.param], ['invalid_template', 'method.autoprompt.template']);
    const long = await refused('demo-gpt2', 'prefix_tuning', { template: worded, virtual_tokens: 60 });
    assert.equal(long.code, 'template_too_long');
    assert.match(long.message, /behind a prefix of 60/);
    const rate = await refused('demo-gpt2', 'autoprompt', { template: slotted, hyperparameters: { learning_rate: 1 } });
    assert.equal(rate.param, 'method.autoprompt.hyperparameters.learning_rate');
  });
});
