/** The API process from outside in: every plugin and route, in order. */

import { randomBytes } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import helmet from '@fastify/helmet';
import multipart from '@fastify/multipart';
import rateLimit from '@fastify/rate-limit';
import sse from '@fastify/sse';
import swagger from '@fastify/swagger';
import swaggerUi from '@fastify/swagger-ui';
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox';
import {
  type FastifyBaseLogger,
  type FastifyInstance,
  type FastifyPluginAsync,
  fastify,
  LogController,
  type RawServerDefault,
} from 'fastify';
import { PtunedError } from '../errors.ts';
import { createAuthenticator } from './auth.ts';
import { accepts } from './describe.ts';
import { answerBrokenRequest, explainJson, registerErrorHandling, sendError, toPtunedError } from './errors.ts';
import { registerMetrics } from './metrics.ts';
import { openapiOptions } from './openapi.ts';
import { eventRoutes } from './routes/events.ts';
import { fileRoutes } from './routes/files.ts';
import { jobRoutes } from './routes/jobs.ts';
import { modelRoutes } from './routes/models.ts';
import { queryRoutes } from './routes/queries.ts';
import { serviceRoutes } from './routes/service.ts';
import type { ApiServices } from './services.ts';
import { explainValidation } from './validation.ts';

export type App = FastifyInstance<
  RawServerDefault,
  IncomingMessage,
  ServerResponse,
  FastifyBaseLogger,
  TypeBoxTypeProvider
>;

/** Builds the app; nothing listens yet. `close()` ends open event streams and then the connections. */
export async function createApp(services: ApiServices): Promise<App> {
  const { config, logger } = services;
  const app = createServer(logger);
  // Response schemas document; the types check them. Serialising by them would drop what they forget.
  app.setSerializerCompiler(() => (payload) => JSON.stringify(payload));
  app.removeContentTypeParser('text/plain');
  app.decorateRequest('owner', '');
  app.addHook('onRequest', async (request, reply) => {
    reply.header('x-request-id', request.id);
  });
  registerErrorHandling(app);
  acceptEmptyJson(app);
  registerClosing(app);
  registerRequestLog(app);
  const metrics = registerMetrics(app, services.jobs);

  await app.register(helmet, { contentSecurityPolicy: false });
  await app.register(swagger, openapiOptions);
  await app.register(swaggerUi, { routePrefix: '/docs', staticCSP: true });
  // Its types name the export that is not wrapped as a plugin.
  await app.register(sse as unknown as FastifyPluginAsync);

  await app.register(async (root) => serviceRoutes(root.withTypeProvider<TypeBoxTypeProvider>(), services, metrics));
  await app.register(
    async (scope) => {
      const v1: App = scope.withTypeProvider<TypeBoxTypeProvider>();
      v1.addHook('onRequest', createAuthenticator(config.apiKeys));
      if (config.rateLimit > 0) await v1.register(rateLimit, rateLimitOptions(config.rateLimit));
      // Only the file routes take multipart bodies.
      await v1.register(async (scope) => {
        await scope.register(multipart, { throwFileSizeLimit: true });
        fileRoutes(scope.withTypeProvider<TypeBoxTypeProvider>(), services);
      });
      jobRoutes(v1, services);
      eventRoutes(v1, services);
      modelRoutes(v1, services);
      queryRoutes(v1, services);
    },
    { prefix: '/v1' },
  );
  return app;
}

/** Fastify as this service sets it: limits of a request, ids, and failures from before a route is found. */
function createServer(logger: ApiServices['logger']): App {
  return fastify({
    loggerInstance: logger as FastifyBaseLogger,
    logController: new LogController({ disableRequestLogging: true }),
    genReqId: () => `req_${randomBytes(12).toString('hex')}`,
    requestTimeout: 300_000,
    http: { headersTimeout: 30_000 },
    bodyLimit: 1 << 20,
    routerOptions: { maxParamLength: 1000 },
    forceCloseConnections: 'idle',
    // A request that meets a stopping service is still answered; nothing new connects.
    return503OnClosing: false,
    // Nothing is converted, defaulted or dropped: a request is what the user wrote, or it is refused.
    ajv: {
      customOptions: {
        removeAdditional: false,
        coerceTypes: false,
        useDefaults: false,
        allErrors: false,
        verbose: true,
        keywords: [accepts],
      },
    },
    schemaErrorFormatter: explainValidation,
    clientErrorHandler: answerBrokenRequest,
    frameworkErrors: (error, request, reply) => {
      sendError(reply, toPtunedError(error, request));
    },
  });
}

/** Answers sent while the service stops close their connections: `close()` need not wait for clients to leave. */
function registerClosing(app: App): void {
  let isClosing = false;
  app.addHook('preClose', async () => {
    isClosing = true;
  });
  app.addHook('onSend', async (_request, reply) => {
    if (isClosing) reply.header('connection', 'close');
  });
}

/**
 * The Python SDK says application/json also where it sends no body (DELETE, cancel). No body is then no body: a route
 * that needs one refuses it by its schema.
 */
function acceptEmptyJson(app: App): void {
  const parse = app.getDefaultJsonParser('error', 'error');
  app.addContentTypeParser('application/json', { parseAs: 'string' }, (request, body, done) => {
    if (body.length === 0) done(null, undefined);
    else
      parse(request, body as string, (error, value) =>
        done(error === null ? null : explainJson(body as string), value),
      );
  });
}

/** One line a request, with the route's pattern rather than its URL: no key, text or metadata reaches the log. */
function registerRequestLog(app: App): void {
  app.addHook('onResponse', async (request, reply) => {
    const { id, method, owner } = request;
    const ms = Math.round(reply.elapsedTime);
    request.log.info({ id, method, route: request.routeOptions.url, status: reply.statusCode, ms, owner }, 'request');
  });
}

function rateLimitOptions(perMinute: number) {
  return {
    max: perMinute,
    timeWindow: 60_000,
    keyGenerator: (request: { owner: string }) => request.owner,
    errorResponseBuilder: (_request: unknown, { ttl }: { ttl: number }) =>
      new PtunedError('rate_limited', `more than ${perMinute} requests in a minute.`, {
        details: { retryAfter: Math.max(1, Math.ceil(ttl / 1000)) },
      }),
  };
}
