/** The few requests the demo makes, with fetch: what any client of the API does. */
import { openAsBlob } from 'node:fs';
import { basename } from 'node:path';

export interface Job {
  id: string;
  status: string;
  fine_tuned_model: string | null;
  error: { code: string; message: string } | null;
  progress: {
    step: number;
    total_steps: number;
    loss: number | null;
    metric: string;
    dev_metric: number | null;
    best_dev_metric: number | null;
    seconds_left: number | null;
  } | null;
  result: {
    manual: Scores | null;
    tuned: Scores;
    seconds: number;
    rows: Record<'train' | 'dev' | 'test', { used: number }>;
  } | null;
}

interface Scores {
  dev: Record<string, number>;
  test: Record<string, number> | null;
}

export type Client = ReturnType<typeof createClient>;

export function createClient(url: string) {
  async function request<T>(method: string, path: string, body?: unknown): Promise<T> {
    const form = body instanceof FormData;
    const response = await fetch(`${url}${path}`, {
      method,
      ...(body === undefined ? {} : { body: form ? body : JSON.stringify(body) }),
      ...(body === undefined || form ? {} : { headers: { 'content-type': 'application/json' } }),
    });
    const answer = (await response.json()) as T & { error?: { message: string } };
    if (!response.ok) throw new Error(`${method} ${path} answered ${response.status}: ${answer.error?.message}`);
    return answer;
  }
  return {
    async registerModel(path: string, id: string): Promise<string> {
      return (await request<{ id: string }>('POST', '/v1/models', { path, id })).id;
    },
    async upload(path: string): Promise<string> {
      const form = new FormData();
      form.set('purpose', 'fine-tune');
      form.set('file', await openAsBlob(path), basename(path));
      return (await request<{ id: string }>('POST', '/v1/files', form)).id;
    },
    createJob: (body: unknown) => request<Job>('POST', '/v1/fine_tuning/jobs', body),
    job: (id: string) => request<Job>('GET', `/v1/fine_tuning/jobs/${id}`),
    async fillMask(model: string, inputs: Record<string, string>): Promise<string> {
      type Answer = { data: { predictions: { token_str: string }[] }[] };
      const answer = await request<Answer>('POST', '/v1/fill_mask', { model, inputs, top_k: 1 });
      return answer.data[0]!.predictions[0]!.token_str.trim();
    },
    async complete(model: string, prompt: Record<string, string>): Promise<string> {
      type Answer = { choices: { text: string }[] };
      return (
        await request<Answer>('POST', '/v1/completions', { model, prompt, max_tokens: 1, temperature: 0 })
      ).choices[0]!.text.trim();
    },
  };
}
