/** The job as clients see it, where its records need a word. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { jobObject } from '../../src/api/job-json.ts';
import type { JobStatus } from '../../src/jobs/contract.ts';
import { queuedState } from '../../src/jobs/records.ts';
import { jobProgress, jobSpec } from '../support/job-spec.ts';

test('time is left only while a job runs', () => {
  const leftAt = (status: JobStatus) => {
    const job = jobObject(jobSpec(), { ...queuedState(1), status, progress: jobProgress(50) });
    assert.equal(job.progress?.step, 50);
    assert.equal(job.estimated_finish === null, job.progress?.seconds_left === null, status);
    return job.progress?.seconds_left;
  };
  assert.equal(leftAt('running'), 10);
  for (const status of ['queued', 'paused', 'succeeded', 'failed', 'cancelled'] as const) {
    assert.equal(leftAt(status), null, status);
  }
});
