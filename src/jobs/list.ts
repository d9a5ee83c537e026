/** An owner's jobs, page by page. */
import { PtunedError } from '../errors.ts';
import type { Job, JobPage, ListRequest } from './jobs.ts';
import { readRecords } from './records.ts';
import type { JobStore } from './store.ts';

const chunk = 100;

/** Newest first; when Redis may have forgotten jobs, those on disk are brought back first. */
export async function listJobs(
  { connection, keys }: JobStore,
  reconcile: () => Promise<unknown>,
  owner: string,
  { after, limit, metadata = {} }: ListRequest,
): Promise<JobPage<Job>> {
  if ((await connection.call((client) => client.exists(keys.known))) === 0) await reconcile();
  return connection.call(async (client) => {
    let rank = 0;
    if (after !== undefined) {
      const found = await client.zrevrank(keys.owner(owner), after);
      if (found === null) {
        throw new PtunedError('invalid_request', `after is "${after}", which is not in this list.`, { param: 'after' });
      }
      rank = found + 1;
    }
    const jobs: Job[] = [];
    for (; jobs.length <= limit; rank += chunk) {
      const ids = await client.zrevrange(keys.owner(owner), rank, rank + chunk - 1);
      for (const record of await readRecords(client, keys, ids)) {
        if (record !== null && hasPairs(record.spec.metadata, metadata)) jobs.push(record);
      }
      if (ids.length < chunk) break;
    }
    return { data: jobs.slice(0, limit), hasMore: jobs.length > limit };
  });
}

function hasPairs(metadata: Record<string, string>, wanted: Record<string, string>): boolean {
  return Object.entries(wanted).every(([name, value]) => metadata[name] === value);
}
