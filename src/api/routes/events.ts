/** GET /fine_tuning/jobs/{id}/events: a page of events, or all of them as they happen as server-sent events. */
import type { FastifyReply, FastifyRequest } from 'fastify';
import { Type } from 'typebox';
import { finalStatuses } from '../../jobs/contract.ts';
import type { Job, Jobs } from '../../jobs/jobs.ts';
import type { App } from '../app.ts';
import { errorBody, toPtunedError } from '../errors.ts';
import { eventObject } from '../job-json.ts';
import { bearer } from '../openapi.ts';
import { errors, Page, parseLimit } from '../schemas/common.ts';
import { EventObject, JobParams, ListPartsQuery } from '../schemas/jobs.ts';
import type { ApiServices } from '../services.ts';

export function eventRoutes(v1: App, { jobs }: ApiServices): void {
  const open = new Set<AbortController>();
  v1.addHook('preClose', async () => {
    for (const stream of open) stream.abort();
  });

  v1.get(
    '/fine_tuning/jobs/:job_id/events',
    {
      sse: 'dual',
      schema: {
        operationId: 'listJobEvents',
        summary: 'Events of a job, oldest last; with Accept: text/event-stream as they happen',
        description:
          'As a page: newest first. As server-sent events (extension): from the first event, or after ' +
          '`Last-Event-ID` or `after`, until the job is final; the last message is `event: done` with id and status.',
        tags: ['Jobs'],
        security: bearer,
        params: JobParams,
        querystring: ListPartsQuery,
        response: {
          200: {
            description: 'A page, or a stream.',
            content: { 'application/json': { schema: Page(EventObject) }, 'text/event-stream': { schema: {} } },
          },
          204: Type.Null({
            description: 'A stream that would have nothing to say: the job is final and all was told.',
          }),
          ...errors,
        },
      },
    },
    async (request, reply) => {
      const { job_id: id } = request.params;
      const { after, limit } = request.query;
      const job = await jobs.get(id, request.owner);
      // The plugin sets reply.sse only where Accept asks for a stream, whatever its types say.
      if ((reply.sse as unknown) === undefined) {
        const page = await jobs.events(id, { after, limit: parseLimit(limit) });
        return { object: 'list' as const, data: page.data.map(eventObject), has_more: page.hasMore };
      }
      const since = request.headers['last-event-id']?.toString() ?? after;
      if (since !== undefined && (await isOver(jobs, job, since))) return reply.code(204).send(null);
      const stop = new AbortController();
      open.add(stop);
      try {
        await stream(jobs, { job, since, stop }, request, reply);
      } finally {
        open.delete(stop);
      }
    },
  );
}

/** Whether nothing can follow: a browser's EventSource comes back after every end, and only 204 stops it. */
async function isOver(jobs: Jobs, job: Job, since: string): Promise<boolean> {
  // A position that cannot be read is refused here, while the status can still say so.
  await jobs.events(job.spec.id, { after: since, limit: 1 });
  const newest = await jobs.events(job.spec.id, { limit: 1 });
  return finalStatuses.includes(job.state.status) && newest.data[0]?.id === since;
}

/** Sends events until the job is final, the client goes or the service stops. */
async function stream(
  jobs: Jobs,
  { job, since, stop }: { job: Job; since: string | undefined; stop: AbortController },
  request: FastifyRequest,
  reply: FastifyReply,
): Promise<void> {
  reply.sse.onClose(() => stop.abort());
  try {
    reply.header('connection', 'close');
    reply.sse.sendHeaders();
    for await (const event of jobs.subscribe(job.spec.id, since, stop.signal)) {
      await reply.sse.send({ id: event.id, data: eventObject(event) });
    }
    if (stop.signal.aborted) return;
    const { state } = await jobs.get(job.spec.id, request.owner);
    if (finalStatuses.includes(state.status)) {
      await reply.sse.send({ event: 'done', data: { id: job.spec.id, status: state.status } });
    }
  } catch (thrown) {
    if (stop.signal.aborted) return;
    // The status has been sent: what is left is to say why the stream ends.
    await reply.sse.send({ event: 'error', data: errorBody(toPtunedError(thrown, request)) });
  }
}
