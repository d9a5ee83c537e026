/**
 * Exit code 0 when the roles of this container do their work, otherwise 1 and one line that says what does not.
 *
 * api and inference answer their /healthz. A tuning worker listens nowhere: it is healthy when Redis sees, from this
 * container's address, the connection on which its queue worker waits, and has heard from that address lately. So a
 * worker that is frozen, has lost Redis, or was never there shows as unhealthy, while one in a long step does not.
 */
import { readFileSync } from 'node:fs';

const patienceMilliseconds = 5000;
/** A worker asks for jobs every 5 s when idle, and renews its lock every 5 s when not. */
const quietSeconds = 20;

const checks = {
  api: () => healthz(process.env.PTUNED_PORT || 8080),
  inference: () => healthz(process.env.PTUNED_INFERENCE_PORT || 8081),
  tuning: queueWorker,
};

async function healthz(port) {
  const response = await fetch(`http://127.0.0.1:${port}/healthz`, { signal: AbortSignal.timeout(patienceMilliseconds) });
  if (!response.ok) throw new Error(`/healthz answers ${response.status}`);
}

async function queueWorker() {
  const { Redis } = await import('ioredis');
  const { createKeys, queueName } = await import('../dist/src/jobs/keys.js');
  const client = new Redis(process.env.REDIS_URL, {
    lazyConnect: true,
    retryStrategy: null,
    connectTimeout: patienceMilliseconds,
    commandTimeout: patienceMilliseconds,
  });
  client.on('error', () => {});
  try {
    await client.connect().catch((error) => {
      throw new Error('Redis cannot be reached', { cause: error.message });
    });
    const me = parseClient(await client.client('INFO'));
    const others = (await client.client('LIST'))
      .split('\n')
      .map(parseClient)
      .filter(({ id, addr }) => id !== me.id && host(addr) === host(me.addr));
    // BullMQ's name for the connections of a queue's workers.
    const name = `${createKeys('ptuned').queuePrefix}:${Buffer.from(queueName).toString('base64')}`;
    if (!others.some((client) => client.name.startsWith(name))) throw new Error('no queue worker is connected to Redis');
    const quiet = Math.min(...others.map((client) => Number(client.idle)));
    if (quiet > quietSeconds) throw new Error(`the queue worker has been silent for ${quiet} s`);
  } finally {
    client.disconnect();
  }
}

/** `id=3 addr=172.18.0.4:5000 name=… idle=0 …` */
function parseClient(line) {
  return Object.fromEntries(line.trim().split(' ').map((pair) => [pair.slice(0, pair.indexOf('=')), pair.slice(pair.indexOf('=') + 1)]));
}

function host(address = '') {
  return address.slice(0, address.lastIndexOf(':'));
}

/** Roles named on the command line, else those the container was started with. */
function rolesOfContainer() {
  const named = process.argv.slice(2);
  if (named.length > 0) return named;
  const words = readFileSync('/proc/1/cmdline', 'utf8').split('\0');
  const at = words.findIndex((word) => word === '--roles' || word.startsWith('--roles='));
  if (at < 0) return Object.keys(checks);
  const value = words[at].includes('=') ? words[at].slice('--roles='.length) : words[at + 1];
  return value.split(',');
}

for (const role of rolesOfContainer()) {
  try {
    await checks[role]();
  } catch (error) {
    console.error(`${role}: ${error.message}${error.cause === undefined ? '' : ` (${error.cause.message ?? error.cause})`}`);
    process.exitCode = 1;
  }
}
