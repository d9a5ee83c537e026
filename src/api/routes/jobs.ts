/** /fine_tuning/jobs: create, list, get, cancel, pause, resume, checkpoints; /fine_tuning/validate. */
import type { App } from '../app.ts';
import { checkpointObject, jobObject } from '../job-json.ts';
import { bearer } from '../openapi.ts';
import { errors, Page, pageOf, parseLimit } from '../schemas/common.ts';
import {
  CheckpointObject,
  JobCreate,
  JobHeaders,
  JobObject,
  JobParams,
  ListJobsQuery,
  ListPartsQuery,
} from '../schemas/jobs.ts';
import { ValidationObject } from '../schemas/validation.ts';
import type { ApiServices } from '../services.ts';
import { createSubmitter } from '../submit.ts';
import { validationObject } from '../validation-json.ts';

/** A list of 200,000 allowed words fits. */
const bodyLimit = 8 << 20;

const common = { tags: ['Jobs'], security: bearer };

export function jobRoutes(v1: App, services: ApiServices): void {
  createRoutes(v1, services);
  readRoutes(v1, services);
  stateRoutes(v1, services);
}

function createRoutes(v1: App, services: ApiServices): void {
  const submit = createSubmitter(services);

  v1.post(
    '/fine_tuning/jobs',
    {
      bodyLimit,
      schema: {
        ...common,
        operationId: 'createJob',
        summary: 'Check everything that can fail, then queue a P-tuning job',
        headers: JobHeaders,
        body: JobCreate,
        response: { 200: JobObject, ...errors },
      },
    },
    async (request) => {
      const { owner, body, headers } = request;
      const isRetry = Number(headers['x-stainless-retry-count'] ?? 0) > 0;
      const { spec, state } = await submit({ owner, body, key: headers['idempotency-key'], isRetry });
      return jobObject(spec, state);
    },
  );

  v1.post(
    '/fine_tuning/validate',
    {
      bodyLimit,
      schema: {
        ...common,
        operationId: 'validateJob',
        summary: 'The same checks without queueing: rows, lengths, what auto chose (extension)',
        body: JobCreate,
        response: { 200: ValidationObject, ...errors },
      },
    },
    async (request) => validationObject(await services.validateJob(request.body, request.owner)),
  );
}

function readRoutes(v1: App, { jobs }: ApiServices): void {
  v1.get(
    '/fine_tuning/jobs',
    {
      schema: {
        ...common,
        operationId: 'listJobs',
        summary: 'Your jobs, newest first; metadata[name]=value keeps those that have the pair',
        querystring: ListJobsQuery,
        response: { 200: Page(JobObject), ...errors },
      },
    },
    async (request) => {
      const { after, limit, ...pairs } = request.query;
      const metadata = Object.fromEntries(
        Object.entries(pairs).map(([name, value]) => [name.slice('metadata['.length, -1), value]),
      );
      const page = await jobs.list(request.owner, { after, limit: parseLimit(limit), metadata });
      const data = page.data.map(({ spec, state }) => jobObject(spec, state));
      return { object: 'list' as const, data, has_more: page.hasMore };
    },
  );

  v1.get(
    '/fine_tuning/jobs/:job_id',
    {
      schema: {
        ...common,
        operationId: 'retrieveJob',
        summary: 'One job, with its progress and result',
        params: JobParams,
        response: { 200: JobObject, ...errors },
      },
    },
    async (request) => {
      const { spec, state } = await jobs.get(request.params.job_id, request.owner);
      return jobObject(spec, state);
    },
  );

  v1.get(
    '/fine_tuning/jobs/:job_id/checkpoints',
    {
      schema: {
        ...common,
        operationId: 'listJobCheckpoints',
        summary: 'Checkpoints of a job, newest first; each is usable as a model',
        params: JobParams,
        querystring: ListPartsQuery,
        response: { 200: Page(CheckpointObject), ...errors },
      },
    },
    async (request) => {
      const { job_id: id } = request.params;
      await jobs.get(id, request.owner);
      const checkpoints = await jobs.checkpoints(id);
      const objects = checkpoints.map((checkpoint) => checkpointObject(checkpoint, id));
      return pageOf(objects, request.query.after, parseLimit(request.query.limit));
    },
  );
}

const summaries = {
  cancel: 'End a job that is not final; its checkpoints are kept',
  pause: 'Stop a job at a checkpoint, or keep a queued one from starting',
  resume: 'Queue a paused job again; it goes on from its checkpoint',
} as const;

function stateRoutes(v1: App, { jobs }: ApiServices): void {
  for (const verb of ['cancel', 'pause', 'resume'] as const) {
    v1.post(
      `/fine_tuning/jobs/:job_id/${verb}`,
      {
        schema: {
          ...common,
          operationId: `${verb}Job`,
          summary: summaries[verb],
          params: JobParams,
          response: { 200: JobObject, ...errors },
        },
      },
      async (request) => {
        const { spec, state } = await jobs[verb](request.params.job_id, request.owner);
        return jobObject(spec, state);
      },
    );
  }
}
