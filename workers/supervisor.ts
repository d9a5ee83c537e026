/** `ptuned start`: the service's processes on one machine, in order; it leaves none behind. */
import type { Config } from '../src/config.ts';
import { PtunedError } from '../src/errors.ts';
import type { Logger } from '../src/logger.ts';
import { openRedis } from '../src/redis/launch.ts';
import { type RoleProcess, startRole } from './role-process.ts';
import { sibling } from './sibling.ts';

export const roleNames = ['api', 'tuning', 'inference'] as const;
export type Role = (typeof roleNames)[number];

export interface Service {
  /** Where the API listens, or else inference; null for a tuning worker alone. */
  url: string | null;
  /** The API first, so that nothing new comes; then the others, which hand back what they have; Redis last. */
  stop(): Promise<void>;
}

/** The roles of a comma-separated list. */
export function parseRoles(text: string): Role[] {
  const names = text.split(',').map((name) => name.trim());
  return names.map((name) => {
    const role = roleNames.find((known) => known === name);
    if (role !== undefined) return role;
    throw new PtunedError('invalid_request', `--roles has "${name}"; accepted: ${roleNames.join(', ')}.`);
  });
}

/**
 * Resolves when every role is ready; when one cannot start, stops the others and throws what kept it. A start that
 * `signal` breaks off is stopped too.
 */
export async function startService(
  config: Config,
  roles: readonly Role[],
  logger: Logger,
  signal: AbortSignal,
): Promise<Service> {
  const closers: { name: Role | 'redis'; close(): Promise<void> }[] = [];
  const running = new Map<Role, RoleProcess>();
  const stop = async () => {
    const of = (...names: string[]) =>
      Promise.all(closers.filter(({ name }) => names.includes(name)).map(({ close }) => close()));
    await of('api');
    await of('inference', 'tuning');
    await of('redis');
  };
  const start = async (role: Role, environment: (url: string | null) => Record<string, string>) => {
    if (!roles.includes(role) || signal.aborted) return;
    const script = sibling(import.meta.url, `./${role}`);
    const started = await startRole({ name: role, script, environment, logger });
    running.set(role, started);
    closers.push({ name: role, close: () => started.stop() });
  };
  try {
    const shared: Record<string, string> = { PTUNED_DATA: config.dataDirectory };
    if (roles.includes('api') || roles.includes('tuning')) {
      const redis = await openRedis(config, logger);
      closers.push({ name: 'redis', close: () => redis.close() });
      shared.REDIS_URL = redis.url;
    }
    // A port that the system chose is kept, so that the API finds inference again after a restart.
    const kept = (url: string | null) => (url === null ? {} : { PTUNED_INFERENCE_PORT: new URL(url).port });
    const starts = await Promise.allSettled([
      start('inference', (url) => ({ ...shared, ...kept(url) })),
      start('tuning', () => shared),
    ]);
    for (const result of starts) if (result.status === 'rejected') throw result.reason;
    const inferenceUrl = running.get('inference')?.url ?? config.inferenceUrl;
    await start('api', (url) => ({
      ...shared,
      PTUNED_INFERENCE_URL: inferenceUrl,
      ...(url === null ? {} : { PTUNED_PORT: new URL(url).port }),
    }));
    signal.throwIfAborted();
  } catch (error) {
    await stop();
    throw error;
  }
  return { url: running.get('api')?.url ?? running.get('inference')?.url ?? null, stop };
}
