/** Prometheus metrics of the API process. Labels are routes and codes, never ids or texts. */
import type { FastifyInstance } from 'fastify';
import { collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';
import type { Jobs } from '../jobs/jobs.ts';

export interface Metrics {
  /** The text form of all metrics. */
  render(): Promise<string>;
  readonly contentType: string;
}

/** Times every request of the app by method, route and status, and tells how many jobs the queue holds. */
export function registerMetrics(app: FastifyInstance, jobs: Pick<Jobs, 'counts'>): Metrics {
  const register = new Registry();
  collectDefaultMetrics({ register });
  const duration = new Histogram({
    name: 'http_request_duration_seconds',
    help: 'Time from the first byte of a request to the end of its answer.',
    labelNames: ['method', 'route', 'status'],
    buckets: [0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30],
    registers: [register],
  });
  app.addHook('onResponse', async (request, reply) => {
    const route = request.routeOptions.url ?? 'unknown';
    duration.observe({ method: request.method, route, status: String(reply.statusCode) }, reply.elapsedTime / 1000);
  });
  watchQueue(register, jobs);
  return { render: () => register.metrics(), contentType: register.contentType };
}

/** Asked for at every scrape; a Redis that does not answer leaves no sample rather than an old one. */
function watchQueue(register: Registry, jobs: Pick<Jobs, 'counts'>): void {
  new Gauge({
    name: 'ptuned_queue_jobs',
    help: 'Jobs in the queue by state: waiting for a tuning worker, or active in one.',
    labelNames: ['state'],
    registers: [register],
    async collect() {
      this.reset();
      const counts = await jobs.counts().catch(() => null);
      if (counts === null) return;
      this.set({ state: 'waiting' }, counts.waiting + counts.delayed);
      this.set({ state: 'active' }, counts.active);
    },
  });
}
