/** The main job over HTTP with the LMs that ship: tune both, beat the manual prompt, ask, cancel, kill -9 and resume. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { isFinal, startTestService, type TestService } from '../support/service.ts';

interface DemoTask {
  data: string;
  kind: 'masked' | 'causal';
  p_tuning: { template: unknown[] };
}
const tasks = JSON.parse(readFileSync('demo/data/tasks.json', 'utf8')) as Record<string, DemoTask>;

describe('the service, end to end', () => {
  let service: TestService;
  const files: Record<string, string> = {};

  before(async () => {
    service = await startTestService({ PTUNED_CHECKPOINT_SECONDS: '1' });
    for (const id of Object.keys(tasks)) await service.client.registerModel(join(process.cwd(), 'demo/models', id), id);
    for (const split of ['train', 'dev', 'test']) {
      files[split] = await service.client.upload(`demo/data/capital/${split}.jsonl`);
    }
  });
  after(() => service.remove());

  const create = (model: string, hyperparameters: Record<string, unknown>, suffix: string) =>
    service.client.createJob({
      model,
      training_file: files.train,
      validation_file: files.dev,
      test_file: files.test,
      suffix,
      seed: 34,
      method: { type: 'p_tuning', p_tuning: { ...tasks[model]!.p_tuning, hyperparameters } },
    });

  for (const [model, task] of Object.entries(tasks)) {
    test(`${model} tuned with auto settings beats the manual prompt by 30 points and answers`, async () => {
      const { id } = await create(model, { max_steps: 60 }, 'capital');
      const job = await service.waitFor(id, isFinal);
      assert.equal(job.status, 'succeeded', JSON.stringify(job.error));
      const { manual, tuned } = job.result!;
      assert.ok(tuned.test!.p_at_1! >= manual!.test!.p_at_1! + 0.3, JSON.stringify(job.result));
      const row = JSON.parse(readFileSync('demo/data/capital/test.jsonl', 'utf8').split('\n')[0]!) as {
        sub_label: string;
        obj_label: string;
      };
      const tunedModel = job.fine_tuned_model!;
      const answers = await Promise.all(
        Array.from({ length: 8 }, () =>
          task.kind === 'masked'
            ? service.client.fillMask(tunedModel, { sub_label: row.sub_label })
            : service.client.complete(tunedModel, { sub_label: row.sub_label }),
        ),
      );
      assert.equal(new Set(answers).size, 1);
      assert.equal(answers[0], row.obj_label);
    });
  }

  test('a running job is cancelled within seconds and stays cancelled', async () => {
    const { id } = await create('demo-gpt2', { max_steps: 100_000, patience: 10_000, n_epochs: 10_000 }, 'cancelled');
    await service.waitFor(id, (job) => (job.progress?.step ?? 0) > 3);
    const { status } = await service.send('POST', `/v1/fine_tuning/jobs/${id}/cancel`);
    assert.equal(status, 200);
    const job = await service.waitFor(id, isFinal, 20);
    assert.equal(job.status, 'cancelled');
    const { data } = (await service.send('GET', '/v1/fine_tuning/jobs')).body as unknown as { data: (typeof job)[] };
    const done = data.find((one) => one.status === 'succeeded')!;
    const again = await service.send('POST', `/v1/fine_tuning/jobs/${done.id}/cancel`);
    assert.equal(again.status, 409);
    assert.equal(again.headers.get('x-should-retry'), 'false');
  });

  test('a worker killed with -9 in training: another goes on to the same final bytes', {
    timeout: 240_000,
  }, async () => {
    const hyperparameters = { max_steps: 150, patience: 1000, n_epochs: 1000, evaluate_every: 25 };
    const whole = await service.waitFor((await create('demo-bert', hyperparameters, 'whole')).id, isFinal);
    const { id } = await create('demo-bert', hyperparameters, 'killed');
    await service.waitFor(id, (job) => (job.progress?.step ?? 0) > 30);
    process.kill(await pidOf('tuning.ts', service.pid), 'SIGKILL');
    const killed = await service.waitFor(id, isFinal, 150);
    assert.equal(killed.status, 'succeeded', JSON.stringify(killed.error));
    assert.equal(sha256Of(killed), sha256Of(whole));
  });

  test('a loss that is not a number fails the job with step and learning rate', async () => {
    const { id } = await create('demo-gpt2', { learning_rate: 1e30, gradient_clip: null, max_steps: 50 }, 'nan');
    const job = await service.waitFor(id, isFinal);
    assert.equal(job.status, 'failed');
    assert.equal(job.error!.code, 'loss_not_finite');
    assert.match(job.error!.message, /step \d+ .*learning rate 1e\+30/);
  });

  test('Redis that hangs: 503 within 2.5 s with Retry-After, and recovery', async () => {
    const redis = await pidOf('redis-server', service.pid);
    process.kill(redis, 'SIGSTOP');
    try {
      const started = performance.now();
      const answer = await service.send('GET', '/v1/fine_tuning/jobs');
      assert.ok(performance.now() - started < 2500, `${performance.now() - started} ms`);
      assert.equal(answer.status, 503);
      assert.equal(answer.body.error!.code, 'queue_unavailable');
      assert.ok(Number(answer.headers.get('retry-after')) >= 1);
      assert.equal((await fetch(`${service.url}/healthz`)).status, 200);
    } finally {
      process.kill(redis, 'SIGCONT');
    }
    const deadline = Date.now() + 5000;
    while ((await service.send('GET', '/v1/fine_tuning/jobs')).status !== 200) assert.ok(Date.now() < deadline);
  });

  test('tuned prompts and base LMs are listed beside each other', async () => {
    const page = await service.send('GET', '/v1/models');
    const ids = (page.body.data as { id: string }[]).map((model) => model.id);
    assert.ok(
      ids.includes('demo-bert') && ids.some((id) => id.startsWith('ft:demo-bert:local:capital:')),
      ids.join(' '),
    );
  });
});

function sha256Of(job: { result: unknown }): string {
  const { prompt_sha256: hash } = job.result as { prompt_sha256: string };
  assert.match(hash, /^[0-9a-f]{64}$/);
  return hash;
}

/** Process id of a descendant of `parent` whose command line begins with or runs `script`. */
async function pidOf(script: string, parent: number): Promise<number> {
  const found = await search(script, parent);
  if (found === null) throw new Error(`no child of ${parent} runs ${script}`);
  return found;
}

async function search(script: string, parent: number): Promise<number | null> {
  const children = (await readFile(`/proc/${parent}/task/${parent}/children`, 'utf8').catch(() => '')).trim();
  for (const pid of children === '' ? [] : children.split(' ').map(Number)) {
    const words = (await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')).split('\0');
    // Redis writes its own title over its command line: the path, a space, the socket.
    const runs = words.some((word) => new RegExp(`(^|/)${script.replaceAll('.', '\\.')}( |$)`).test(word));
    if (words[0] !== 'sh' && runs) return pid;
    const below = await search(script, pid);
    if (below !== null) return below;
  }
  return null;
}
