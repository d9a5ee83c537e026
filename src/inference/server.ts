/** The inference process from outside in: what it holds, every route, and how it stops. */
import { performance } from 'node:perf_hooks';
import { setTimeout as sleep } from 'node:timers/promises';
import sse from '@fastify/sse';
import { type FastifyBaseLogger, type FastifyInstance, type FastifyPluginAsync, fastify, LogController } from 'fastify';
import type { ArtifactStore } from '../artifacts/store.ts';
import type { Config } from '../config.ts';
import { PtunedError } from '../errors.ts';
import type { Logger } from '../logger.ts';
import { createCatalog, type ModelSource } from './catalog.ts';
import { registerErrorHandling, sendError } from './errors.ts';
import { defaultLimits, type Limits } from './limits.ts';
import { createMetrics } from './metrics.ts';
import { createResidents, type Residents } from './residents.ts';
import { classificationsRoute } from './routes/classifications.ts';
import { completionsRoute } from './routes/completions.ts';
import { fillMaskRoute } from './routes/fill-mask.ts';
import { serviceRoutes } from './routes/service.ts';
import type { App } from './serving.ts';
import { type OpenServingLm, openThreadedLm } from './threaded-lm.ts';

export interface InferenceServerOptions {
  config: Pick<Config, 'threads' | 'device'>;
  logger: Logger;
  /** The registry of frozen LMs. */
  models: ModelSource;
  artifacts: ArtifactStore;
  /** How an LM is opened. Default: src/lm/open.ts in a thread of its own. */
  openLm?: OpenServingLm;
  limits?: Partial<Limits>;
}

/**
 * Builds the internal server; nothing listens yet. The API forwards validated bodies of the query routes with the
 * owner in `x-ptuned-owner`. `close()` lets requests under way finish for a while and closes the LMs.
 */
export async function buildInferenceServer(options: InferenceServerOptions): Promise<FastifyInstance> {
  const { config, logger, models, artifacts, openLm = openThreadedLm } = options;
  const limits = { ...defaultLimits(), ...options.limits };
  const metrics = createMetrics();
  const catalog = createCatalog(models, artifacts, limits);
  const residents = createResidents({
    openLm,
    options: { threads: config.threads, device: config.device, keptBytes: limits.keptBytes },
    limits,
    logger,
    observe: metrics.observeRun,
  });
  metrics.watch(residents, catalog.size);

  const app = createApp(logger);
  registerErrorHandling(app);
  const closing = registerClosing(app, residents, limits.drainMs);
  app.addHook('onRequest', async (request, reply) => {
    const started = performance.now();
    // Not onResponse, which does not come for clients that have gone; they are counted as 499.
    reply.raw.once('close', () => {
      const status = reply.raw.writableFinished ? reply.statusCode : 499;
      metrics.observeRequest(request.routeOptions.url ?? 'unknown', status, (performance.now() - started) / 1000);
    });
  });
  // Its types describe the unwrapped function; what is exported is the plugin.
  await app.register(sse as unknown as FastifyPluginAsync);
  serviceRoutes(app, artifacts, metrics, closing);
  const serving = { catalog, residents };
  fillMaskRoute(app, serving);
  classificationsRoute(app, serving);
  completionsRoute(app, serving);
  return app as unknown as FastifyInstance;
}

function createApp(logger: Logger): App {
  const app: App = fastify({
    loggerInstance: logger as FastifyBaseLogger,
    logController: new LogController({ disableRequestLogging: true }),
    bodyLimit: 8 << 20,
    requestTimeout: 60_000,
    // By then every answer has been sent: what is left are connections that clients keep open.
    forceCloseConnections: true,
    // Requests that meet a stopping server get the form of all other errors, from a hook.
    return503OnClosing: false,
    ajv: { customOptions: { removeAdditional: false, coerceTypes: false, useDefaults: false } },
  });
  app.setSerializerCompiler(() => (payload) => JSON.stringify(payload));
  return app;
}

/** Stops taking queries, lets those under way finish, and then closes the LMs. */
function registerClosing(app: App, residents: Residents, drainMs: number): () => boolean {
  let closing = false;
  let active = 0;
  let allAnswered: () => void = () => undefined;
  app.addHook('onRequest', async (request, reply) => {
    active++;
    reply.raw.once('close', () => {
      active--;
      if (active === 0) allAnswered();
    });
    if (!closing || !request.url.startsWith('/v1/')) return;
    reply.header('connection', 'close');
    return sendError(reply, new PtunedError('inference_unavailable', 'The inference process is stopping; try again.'));
  });
  app.addHook('preClose', async () => {
    closing = true;
    const answered = new Promise<void>((resolve) => {
      allAnswered = resolve;
      if (active === 0) resolve();
    });
    await residents.drain(drainMs);
    // A client that does not read its answer is not waited for.
    await Promise.race([answered, sleep(500, undefined, { ref: false })]);
  });
  app.addHook('onClose', async () => residents.close());
  return () => closing;
}
