/** How every process of the service begins and ends: the same signals, the same messages to a supervisor. */
import { type FailureRecord, PtunedError, toFailureRecord } from '../src/errors.ts';
import type { Logger } from '../src/logger.ts';

export interface Running {
  /** Where it listens, if it does. */
  url: string | null;
  close(): Promise<void>;
}

/** What a role process tells its supervisor. */
export type RoleMessage = { type: 'ready'; url: string | null } | { type: 'failed'; error: FailureRecord };

/** Docker and systemd send SIGKILL after 10 s. */
const stopMilliseconds = 9500;

/**
 * Starts and runs until SIGTERM, SIGINT or the end of the supervisor; then closes and exits with 0. Under a supervisor
 * SIGINT is ignored: a ctrl-C reaches the whole terminal, and the supervisor stops its processes in order.
 */
export async function runProcess(logger: Logger, start: () => Promise<Running>): Promise<void> {
  const isSupervised = process.connected;
  let running: Running | null = null;
  let isStopping = false;

  const stop = async (why: string) => {
    if (isStopping) return;
    isStopping = true;
    logger.info({ why }, 'stopping');
    setTimeout(() => {
      logger.error('did not stop in time');
      process.exit(1);
    }, stopMilliseconds).unref();
    await running?.close();
    logger.info('stopped');
    process.exit(0);
  };
  const onSignal = (signal: NodeJS.Signals) => {
    stop(signal).catch((error) => die(error));
  };
  const die = (error: unknown) => {
    logger.fatal({ err: error }, 'cannot go on');
    tell({ type: 'failed', error: toFailureRecord(error) }, () => process.exit(1));
  };

  process.on('SIGTERM', onSignal);
  process.on('SIGINT', (signal) => {
    if (!isSupervised) onSignal(signal);
  });
  process.on('SIGHUP', (signal) => {
    if (!isSupervised) onSignal(signal);
  });
  process.on('disconnect', () => onSignal('SIGTERM'));
  process.on('uncaughtException', die);
  process.on('unhandledRejection', die);

  try {
    running = await start();
  } catch (error) {
    die(error);
    return;
  }
  logger.info({ url: running.url }, 'ready');
  tell({ type: 'ready', url: running.url }, () => {});
}

function tell(message: RoleMessage, done: () => void): void {
  if (process.connected) process.send!(message, done);
  else done();
}

/** Why an address cannot be listened on, by the system's code; what is not here is no fault of the address. */
const addressFaults: Readonly<Record<string, string>> = {
  EADDRINUSE: 'is in use',
  EACCES: 'may not be listened on by this user',
  EADDRNOTAVAIL: 'is no address of this machine',
  ENOTFOUND: 'is not known: the name has no address',
  EAI_AGAIN: 'is not known: the name has no address now',
};

/** Listens and yields the URL; an address that cannot be had is refused with the variables that choose another. */
export async function listen(
  server: { listen(options: { host: string; port: number }): Promise<string> },
  address: { host: string; port: number },
  variables: { host: string; port: string },
): Promise<string> {
  try {
    return await server.listen(address);
  } catch (error) {
    const { code = '' } = error as NodeJS.ErrnoException;
    const fault = addressFaults[code];
    if (fault === undefined) throw error;
    const { host, port } = address;
    const param = code === 'EADDRINUSE' || code === 'EACCES' ? variables.port : variables.host;
    throw new PtunedError('conflict', `Port ${port} on ${host} ${fault}; ${param} chooses another.`, {
      param,
      cause: error,
    });
  }
}

/** Only the supervisor (`ptuned start`) starts a Redis. */
export function redisMissing(): PtunedError {
  return new PtunedError('queue_unavailable', 'REDIS_URL is not set; `ptuned start` starts a Redis of its own.', {
    param: 'REDIS_URL',
  });
}
