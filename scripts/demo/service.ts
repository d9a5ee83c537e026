/** Starts the service as a user would, and stops it again. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { extname } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

export interface Service {
  url: string;
  /** Process id of `ptuned start`. */
  pid: number;
  /** Resolves when the service has ended. */
  exited: Promise<void>;
  /** SIGTERM, then waits for the end. */
  stop(): Promise<void>;
}

const longestStart = 180_000;

/** `ptuned start` on free ports with its data in `data`; `environment` adds variables. @throws Error with the service's last lines when it does not come up */
export async function startService(data: string, environment: Record<string, string> = {}): Promise<Service> {
  const [port, inferencePort] = await freePorts(2);
  const entry = fileURLToPath(new URL(`../../workers/ptuned${extname(import.meta.url)}`, import.meta.url));
  const child = spawn(process.execPath, [...process.execArgv, entry, 'start'], {
    // Its own process group: ctrl-C reaches the demo alone, which then stops the service in order.
    detached: true,
    // The channel tells the service when this process is gone, however it ended.
    stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
    env: {
      ...process.env,
      PTUNED_DATA: data,
      PTUNED_HOST: '127.0.0.1',
      PTUNED_PORT: String(port),
      PTUNED_INFERENCE_PORT: String(inferencePort),
      PTUNED_API_KEYS: '',
      PTUNED_LOG_LEVEL: 'warn',
      ...environment,
    },
  });
  const lines: string[] = [];
  child.stderr!.setEncoding('utf8').on('data', (text: string) => {
    lines.push(text);
    if (lines.length > 40) lines.shift();
  });
  const exited = once(child, 'exit').then(() => undefined);
  const url = `http://127.0.0.1:${port}`;
  const stop = () => stopChild(child, exited);
  try {
    await ready(url, child);
  } catch (error) {
    await stop();
    throw new Error(`${(error as Error).message}\n${lines.join('')}`);
  }
  return { url, pid: child.pid!, exited, stop };
}

async function ready(url: string, child: ChildProcess): Promise<void> {
  const deadline = Date.now() + longestStart;
  while (Date.now() < deadline) {
    if (child.exitCode !== null) throw new Error(`The service ended with exit code ${child.exitCode}.`);
    const answer = await fetch(`${url}/readyz`).catch(() => null);
    if (answer?.ok) return;
    await sleep(200);
  }
  throw new Error(`The service was not ready after ${longestStart / 1000} s.`);
}

async function stopChild(child: ChildProcess, exited: Promise<void>): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  child.kill('SIGTERM');
  await exited;
}

async function freePorts(count: number): Promise<number[]> {
  const servers = await Promise.all(
    Array.from({ length: count }, async () => {
      const server = createServer().listen(0, '127.0.0.1');
      await once(server, 'listening');
      return server;
    }),
  );
  const ports = servers.map((server) => (server.address() as { port: number }).port);
  await Promise.all(servers.map((server) => once(server.close(), 'close')));
  return ports;
}
