/** /healthz, /readyz, /metrics of the inference process. */
import type { ArtifactStore } from '../../artifacts/store.ts';
import type { Metrics } from '../metrics.ts';
import type { App } from '../serving.ts';

/** `closing` tells whether the server has begun to stop. */
export function serviceRoutes(app: App, artifacts: ArtifactStore, metrics: Metrics, closing: () => boolean): void {
  app.get('/healthz', async () => ({ status: 'ok' }));
  app.get('/readyz', async (_request, reply) => {
    // Any id will do: the answer is whether the store can be asked.
    const storage = await artifacts.version('ready').then(
      () => true,
      () => false,
    );
    const ready = storage && !closing();
    return reply.code(ready ? 200 : 503).send({ status: ready ? 'ready' : 'unavailable', checks: { storage } });
  });
  app.get('/metrics', async (_request, reply) => {
    const { type, text } = await metrics.render();
    return reply.type(type).send(text);
  });
}
