/** One request, one job, however often a client sends it. */
import { createHash, randomUUID } from 'node:crypto';
import type { Job, Jobs } from '../jobs/jobs.ts';
import type { JobValidator } from '../jobs/validate.ts';
import type { JobCreate } from './schemas/jobs.ts';

export interface Submission {
  owner: string;
  body: JobCreate;
  /** The header Idempotency-Key. */
  key: string | undefined;
  /** The SDK repeats a request whose answer it did not get (x-stainless-retry-count above 0). */
  isRetry: boolean;
}

/** How long after a job was made an SDK's retry may still mean that job, in seconds. */
const retryWindow = 600;
/** Marks the keys made here, for requests that came without one. */
const ownKeys = 'request-';

/**
 * Submits with the client's key where there is one. Otherwise a retry with the same body, as long as the first request
 * is under way or its job is new, is that first request; two first requests are two jobs, however alike.
 */
export function createSubmitter({ jobs, validateJob }: { jobs: Jobs; validateJob: JobValidator }) {
  const underWay = new Map<string, Promise<Job>>();

  async function submit({ owner, body, key, isRetry }: Submission, bodyHash: string): Promise<Job> {
    const earlier = isRetry && key === undefined ? await findRecent(owner, bodyHash) : null;
    if (earlier !== null) return earlier;
    const { spec } = await validateJob(body, owner);
    const { job } = await jobs.submit(spec, { idempotencyKey: key ?? `${ownKeys}${randomUUID()}`, bodyHash });
    return job;
  }

  async function findRecent(owner: string, bodyHash: string): Promise<Job | null> {
    const { data } = await jobs.list(owner, { limit: 100 });
    const since = Date.now() / 1000 - retryWindow;
    const isSame = ({ spec }: Job) =>
      spec.createdAt >= since && spec.idempotency?.bodyHash === bodyHash && spec.idempotency.key.startsWith(ownKeys);
    return data.find(isSame) ?? null;
  }

  return (submission: Submission): Promise<Job> => {
    const { owner, key, isRetry } = submission;
    const bodyHash = createHash('sha256').update(JSON.stringify(submission.body)).digest('hex');
    const name = JSON.stringify([owner, key ?? null, bodyHash]);
    const first = underWay.get(name);
    if (first !== undefined && (key !== undefined || isRetry)) return first;
    const work = submit(submission, bodyHash).finally(() => {
      if (underWay.get(name) === work) underWay.delete(name);
    });
    underWay.set(name, work);
    return work;
  };
}
