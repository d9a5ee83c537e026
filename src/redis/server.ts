/** A redis-server of our own: a child that ends when we do, however we end, and is started again when it dies. */
import { type ChildProcess, spawn } from 'node:child_process';
import fs from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { Redis } from 'ioredis';
import { PtunedError } from '../errors.ts';
import type { Logger } from '../logger.ts';
import type { RedisBinary } from './binary.ts';
import { isRunning } from './lock.ts';

export interface RedisServer {
  close(): Promise<void>;
}

export interface ServerOptions {
  binary: RedisBinary;
  /** Where the append-only file is kept. */
  directory: string;
  /** Path of the Unix socket it listens on; it has no TCP port. */
  socket: string;
  logger: Logger;
}

/**
 * The watcher reads our end of a pipe: it ends when we close it or die, and then Redis is asked to stop. Redis is in
 * a session of its own, so a ctrl-C in the terminal reaches it only through us.
 */
const wrapper = `exec 3<&0
"$@" </dev/null 3<&- &
server=$!
( read -r _ <&3; kill -TERM $server 2>/dev/null ) &
watcher=$!
exec 3<&-
wait $server
status=$?
kill $watcher 2>/dev/null
exit $status`;

/** An append-only file of gigabytes takes a while to load. */
const startMilliseconds = 120_000;
const stopMilliseconds = 10_000;
const predecessorMilliseconds = 15_000;

/** Resolves when it answers; throws `queue_unavailable` with its last words when it does not start. */
export async function startServer(options: ServerOptions): Promise<RedisServer> {
  const { directory, socket, logger } = options;
  await fs.mkdir(directory, { recursive: true, mode: 0o700 });
  await awaitPredecessor(join(directory, 'redis.pid'));
  let isClosing = false;
  let child = await launch(options);
  child.once('exit', onExit);

  function onExit(code: number | null, signal: string | null): void {
    if (isClosing) return;
    logger.error({ code, signal }, 'redis-server has died; it is started again');
    revive().catch((error) => logger.fatal({ err: error }, 'redis-server cannot be started again'));
  }

  async function revive(): Promise<void> {
    for (let pause = 250; !isClosing; pause = Math.min(pause * 2, 10_000)) {
      await setTimeout(pause);
      try {
        child = await launch(options);
        if (isClosing) await stop(child);
        else child.once('exit', onExit);
        return;
      } catch (error) {
        logger.error({ err: error }, 'redis-server did not start');
      }
    }
  }

  return {
    async close() {
      isClosing = true;
      await stop(child);
      await fs.rm(socket, { force: true });
    },
  };
}

async function launch({ binary, directory, socket, logger }: ServerOptions): Promise<ChildProcess> {
  const settings = {
    port: '0',
    unixsocket: socket,
    unixsocketperm: '700',
    dir: directory,
    pidfile: join(directory, 'redis.pid'),
    appendonly: 'yes',
    appendfsync: 'always',
    'maxmemory-policy': 'noeviction',
    save: '',
    loglevel: 'warning',
  };
  const args = Object.entries(settings).flatMap(([name, value]) => [`--${name}`, value]);
  const child = spawn('sh', ['-c', wrapper, 'sh', binary.path, ...args], {
    stdio: ['pipe', 'pipe', 'pipe'],
    detached: true,
    env: { ...process.env, ...binary.env },
  });
  let lastWords = '';
  for (const output of [child.stdout, child.stderr]) {
    output!.setEncoding('utf8').on('data', (text: string) => {
      lastWords = `${lastWords}${text}`.slice(-2000);
      logger.debug({ redis: text.trim() }, 'redis-server');
    });
  }
  // Writing never happens; an error here only says that the wrapper has gone.
  child.stdin!.on('error', () => {});
  await answering(child, socket, () => lastWords);
  return child;
}

async function answering(child: ChildProcess, socket: string, lastWords: () => string): Promise<void> {
  const end = Date.now() + startMilliseconds;
  let failure = '';
  child.once('error', (error) => {
    failure = error.message;
  });
  while (Date.now() < end && failure === '' && child.exitCode === null && child.signalCode === null) {
    if (await doesAnswer(socket)) return;
    await setTimeout(25);
  }
  await stop(child);
  const said = failure || lastWords().trim().split('\n').at(-1) || 'it did not say why';
  throw new PtunedError('queue_unavailable', `redis-server does not start: ${said}.`);
}

async function doesAnswer(socket: string): Promise<boolean> {
  const client = new Redis(socket, { lazyConnect: true, retryStrategy: null, commandTimeout: 2000 });
  client.on('error', () => {});
  try {
    await client.connect();
    return (await client.ping()) === 'PONG';
  } catch {
    return false;
  } finally {
    client.disconnect();
  }
}

async function stop(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null || child.pid === undefined) return;
  const exited = new Promise<void>((resolve) => child.once('close', () => resolve()));
  child.stdin!.end();
  const isDone = await Promise.race([exited.then(() => true), setTimeout(stopMilliseconds, false, { ref: false })]);
  if (isDone) return;
  process.kill(-child.pid, 'SIGKILL');
  await exited;
}

/** A server whose owner was killed ends by itself; two on one append-only file would destroy it. */
async function awaitPredecessor(pidfile: string): Promise<void> {
  const end = Date.now() + predecessorMilliseconds;
  while (await isServing(pidfile)) {
    if (Date.now() > end) {
      throw new PtunedError('conflict', `An earlier redis-server still runs on these data (its pid is in ${pidfile}).`);
    }
    await setTimeout(50);
  }
}

async function isServing(pidfile: string): Promise<boolean> {
  const pid = Number(await fs.readFile(pidfile, 'utf8').catch(() => ''));
  if (!Number.isInteger(pid) || pid <= 0 || !isRunning(pid)) return false;
  // Where the system tells: the number may belong to another process by now.
  const folder = await fs.readlink(`/proc/${pid}/cwd`).catch(() => null);
  return folder === null || folder === (await fs.realpath(dirname(pidfile)));
}
