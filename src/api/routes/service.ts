/** /healthz (alive), /readyz (able to take work), /metrics, /openapi.json; no key needed. */
import { randomUUID } from 'node:crypto';
import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Type } from 'typebox';
import type { App } from '../app.ts';
import type { Metrics } from '../metrics.ts';
import { errors } from '../schemas/common.ts';
import type { ApiServices } from '../services.ts';

const Check = Type.Object({ ok: Type.Boolean(), message: Type.Optional(Type.String()) });

const Readiness = Type.Object(
  {
    status: Type.Union([Type.Literal('ready'), Type.Literal('unavailable')]),
    checks: Type.Object({ redis: Check, storage: Check, inference: Check }),
  },
  { title: 'Readiness' },
);

/** Milliseconds after which a dependency that has not answered counts as down. */
const patience = 2000;

export function serviceRoutes(app: App, services: ApiServices, metrics: Metrics): void {
  const { jobs, inference, config } = services;

  app.get(
    '/healthz',
    {
      schema: {
        operationId: 'getHealth',
        summary: 'The process is alive',
        tags: ['Service'],
        security: [],
        response: { 200: Type.Object({ status: Type.Literal('ok') }), ...errors },
      },
    },
    async () => ({ status: 'ok' as const }),
  );

  app.get(
    '/readyz',
    {
      schema: {
        operationId: 'getReadiness',
        summary: 'Redis and storage work, so that jobs can be taken; inference is reported, not required',
        tags: ['Service'],
        security: [],
        response: { 200: Readiness, 503: Readiness, ...errors },
      },
    },
    async (_request, reply) => {
      const [redis, storage, served] = await Promise.all([
        check(jobs.ping()),
        check(writeProbe(config.dataDirectory)),
        check(inference.ping()),
      ]);
      const ready = redis.ok && storage.ok;
      if (!ready) reply.header('retry-after', '2');
      return reply.code(ready ? 200 : 503).send({
        status: ready ? ('ready' as const) : ('unavailable' as const),
        checks: { redis, storage, inference: served },
      });
    },
  );

  app.get(
    '/metrics',
    {
      schema: {
        operationId: 'getMetrics',
        summary: 'Prometheus metrics of the API process',
        tags: ['Service'],
        security: [],
        response: {
          200: { description: 'Text form.', content: { 'text/plain': { schema: Type.String() } } },
          ...errors,
        },
      },
    },
    async (_request, reply) => reply.type(metrics.contentType).send(await metrics.render()),
  );

  app.get('/openapi.json', { schema: { hide: true } }, async () => app.swagger());
}

/** A full or read-only disk shows only when something is written. */
async function writeProbe(directory: string): Promise<void> {
  const path = join(directory, `.ready-${randomUUID()}`);
  try {
    await writeFile(path, 'ready');
  } finally {
    await rm(path, { force: true });
  }
}

/** Says only that a dependency is down, not how: the answer goes to anyone. */
async function check(dependency: Promise<unknown>): Promise<{ ok: boolean; message?: string }> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => reject(new Error('late')), patience);
  });
  try {
    await Promise.race([dependency, late]);
    return { ok: true };
  } catch (error) {
    const isLate = error instanceof Error && error.message === 'late';
    return { ok: false, message: isLate ? 'does not answer in time' : 'cannot be reached' };
  } finally {
    clearTimeout(timer);
  }
}
