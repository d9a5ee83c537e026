/** The whole service as a user starts it, for end-to-end tests; one for each test file. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { createClient, type Job } from '../../scripts/demo/client.ts';
import { type Service, startService } from '../../scripts/demo/service.ts';

export interface TestService extends Service {
  data: string;
  client: ReturnType<typeof createClient>;
  /** Sends JSON and yields status and parsed answer, whatever the status. */
  send(method: string, path: string, body?: unknown): Promise<{ status: number; headers: Headers; body: Answer }>;
  uploadText(text: string, name?: string): Promise<string>;
  /** Polls until the job is in one of the states. */
  waitFor(job: string, until: (job: Job) => boolean, seconds?: number): Promise<Job>;
  /** Stops the service and removes its data. */
  remove(): Promise<void>;
}

export interface Answer {
  id?: string;
  error?: { message: string; type: string; param: string | null; code: string };
  [field: string]: unknown;
}

export async function startTestService(environment: Record<string, string> = {}): Promise<TestService> {
  const data = await mkdtemp(join(tmpdir(), 'ptuned-e2e-'));
  const service = await startService(data, environment);
  const client = createClient(service.url);
  const send: TestService['send'] = async (method, path, body) => {
    const form = body instanceof FormData;
    const response = await fetch(`${service.url}${path}`, {
      method,
      ...(body === undefined ? {} : { body: form ? body : JSON.stringify(body) }),
      ...(body === undefined || form ? {} : { headers: { 'content-type': 'application/json' } }),
    });
    return { status: response.status, headers: response.headers, body: (await response.json()) as Answer };
  };
  return {
    ...service,
    data,
    client,
    send,
    async uploadText(text, name = 'data.jsonl') {
      const form = new FormData();
      form.set('purpose', 'fine-tune');
      form.set('file', new Blob([text]), name);
      const { body } = await send('POST', '/v1/files', form);
      if (body.id === undefined) throw new Error(JSON.stringify(body));
      return body.id;
    },
    async waitFor(id, until, seconds = 120) {
      const deadline = Date.now() + seconds * 1000;
      for (;;) {
        const job = await client.job(id);
        if (until(job)) return job;
        if (Date.now() > deadline)
          throw new Error(`job ${id} is ${job.status} after ${seconds} s: ${JSON.stringify(job)}`);
        await sleep(100);
      }
    },
    async remove() {
      await service.stop();
      await rm(data, { recursive: true, force: true });
    },
  };
}

export const isFinal = (job: Job): boolean => ['succeeded', 'failed', 'cancelled'].includes(job.status);
