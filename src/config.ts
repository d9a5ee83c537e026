/** The only file that reads the environment. */
import { availableParallelism, homedir } from 'node:os';
import { isAbsolute, join, resolve } from 'node:path';
import { PtunedError } from './errors.ts';

export interface Config {
  /** Where everything is kept: models, files, jobs, artifacts, redis. PTUNED_DATA, default ./.ptuned */
  dataDirectory: string;
  /** PTUNED_HOST, PTUNED_PORT: where the API listens. Default 127.0.0.1:8080. */
  host: string;
  port: number;
  /** PTUNED_INFERENCE_HOST, PTUNED_INFERENCE_PORT: where the inference process listens. Default 127.0.0.1:8081. */
  inferenceHost: string;
  inferencePort: number;
  /** PTUNED_INFERENCE_URL: where the API finds inference. Default http://{inferenceHost}:{inferencePort}. */
  inferenceUrl: string;
  /** REDIS_URL, or null: start a redis-server of our own. */
  redisUrl: string | null;
  /** PTUNED_REDIS_UNSAFE=1: use REDIS_URL even when it may lose accepted jobs. Default 0. */
  redisUnsafe: boolean;
  /** PTUNED_CACHE: where a downloaded redis-server is kept. Default ~/.cache/ptuned */
  cacheDirectory: string;
  /** PTUNED_API_KEYS: comma-separated `key` or `owner=key`; empty means no authentication (owner "local"). */
  apiKeys: { owner: string; key: string }[];
  /** PTUNED_MODEL_ROOTS: folders (colon-separated) from which POST /v1/models may register LMs. */
  modelRoots: string[];
  /** PTUNED_THREADS: onnxruntime threads of a tuning or inference process. Default: cores. */
  threads: number;
  /** PTUNED_TUNING_SLOTS: jobs a tuning worker trains at once. Default 1. */
  tuningSlots: number;
  /**
   * PTUNED_PACKING: jobs of one LM that a training child trains at once, sharing its batches; 1 for `off`, the default,
   * where each job has the LM to itself.
   */
  packing: number;
  /** PTUNED_KEEP_SECONDS: a training child without a job keeps its LM open for so long; 0 ends it. Default 300. */
  keepSeconds: number;
  /** PTUNED_DEVICE: cpu or cuda. */
  device: 'cpu' | 'cuda';
  /**
   * PTUNED_CONTEXT_MB, here in bytes: keys and values that a job keeps of the texts before its rows' first pseudo tokens. What
   * does not fit is computed again in each step. Default 1024 MiB.
   */
  contextBytes: number;
  /** PTUNED_CHECKPOINT_SECONDS: at most this much training is lost when a worker dies. Default 10. */
  checkpointSeconds: number;
  /** PTUNED_STEP_SECONDS: a training child that makes no step for so long is killed. Default 600. */
  stepSeconds: number;
  /** PTUNED_RATE_LIMIT: requests an owner may make in a minute; 0, the default, sets no limit. */
  rateLimit: number;
  /** PTUNED_LOG_LEVEL: pino level. Default info. */
  logLevel: string;
}

type Environment = Record<string, string | undefined>;

/**
 * Reads the configuration; a value that cannot be used is refused with its variable's name. A variable that is empty is
 * as if it were not there: compose files and units hand on what nobody has set as nothing.
 */
export function readConfig(variables: Environment = process.env): Config {
  const environment: Environment = Object.fromEntries(Object.entries(variables).filter(([, value]) => value !== ''));
  const host = environment.PTUNED_HOST ?? '127.0.0.1';
  const inferenceHost = environment.PTUNED_INFERENCE_HOST ?? '127.0.0.1';
  const port = integer(environment, 'PTUNED_PORT', 8080, 0, 65535);
  const inferencePort = integer(environment, 'PTUNED_INFERENCE_PORT', port === 0 ? 0 : nextPort(port), 0, 65535);
  return {
    dataDirectory: resolve(environment.PTUNED_DATA ?? '.ptuned'),
    host,
    port,
    inferenceHost,
    inferencePort,
    inferenceUrl: readUrl(environment, 'PTUNED_INFERENCE_URL') ?? `http://${inferenceHost}:${inferencePort}`,
    redisUrl: environment.REDIS_URL ?? null,
    redisUnsafe: oneOf(environment, 'PTUNED_REDIS_UNSAFE', ['0', '1'], '0') === '1',
    cacheDirectory: resolve(environment.PTUNED_CACHE ?? join(homedir(), '.cache', 'ptuned')),
    apiKeys: readKeys(environment.PTUNED_API_KEYS ?? ''),
    modelRoots: readRoots(environment.PTUNED_MODEL_ROOTS ?? ''),
    threads: integer(environment, 'PTUNED_THREADS', availableParallelism(), 1, 1024),
    tuningSlots: integer(environment, 'PTUNED_TUNING_SLOTS', 1, 1, 64),
    packing: environment.PTUNED_PACKING === 'off' ? 1 : integer(environment, 'PTUNED_PACKING', 1, 1, 64),
    keepSeconds: integer(environment, 'PTUNED_KEEP_SECONDS', 300, 0, 86_400),
    device: oneOf(environment, 'PTUNED_DEVICE', ['cpu', 'cuda'], 'cpu'),
    contextBytes: integer(environment, 'PTUNED_CONTEXT_MB', 1024, 0, 1 << 20) * 2 ** 20,
    checkpointSeconds: integer(environment, 'PTUNED_CHECKPOINT_SECONDS', 10, 0, 86_400),
    stepSeconds: integer(environment, 'PTUNED_STEP_SECONDS', 600, 1, 86_400),
    rateLimit: integer(environment, 'PTUNED_RATE_LIMIT', 0, 0, 1_000_000),
    logLevel: oneOf(
      environment,
      'PTUNED_LOG_LEVEL',
      ['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'],
      'info',
    ),
  };
}

function refuse(name: string, found: string, accepted: string): PtunedError {
  return new PtunedError('invalid_request', `${name} is "${found}"; accepted: ${accepted}.`, { param: name });
}

function integer(environment: Environment, name: string, fallback: number, least: number, most: number): number {
  const text = environment[name];
  if (text === undefined) return fallback;
  const value = Number(text);
  if (!Number.isInteger(value) || value < least || value > most) {
    throw refuse(name, text, `a whole number from ${least} to ${most}`);
  }
  return value;
}

function oneOf<const T extends string>(
  environment: Environment,
  name: string,
  accepted: readonly T[],
  fallback: NoInfer<T>,
): T {
  const text = environment[name];
  if (text === undefined) return fallback;
  const found = accepted.find((value) => value === text);
  if (found === undefined) throw refuse(name, text, accepted.join(', '));
  return found;
}

function nextPort(port: number): number {
  return port === 65535 ? port - 1 : port + 1;
}

function readUrl(environment: Environment, name: string): string | null {
  const text = environment[name];
  if (text === undefined) return null;
  const protocol = URL.canParse(text) ? new URL(text).protocol : '';
  if (protocol === 'http:' || protocol === 'https:') return text;
  throw refuse(name, text, 'a URL such as http://127.0.0.1:8081');
}

function readKeys(text: string): Config['apiKeys'] {
  const entries = text
    .split(',')
    .map((entry) => entry.trim())
    .filter((entry) => entry !== '');
  return entries.map((entry) => {
    const at = entry.indexOf('=');
    const owner = at < 0 ? 'local' : entry.slice(0, at);
    const key = at < 0 ? entry : entry.slice(at + 1);
    if (!/^[A-Za-z0-9_-]{1,64}$/.test(owner) || key.length < 8) {
      throw refuse('PTUNED_API_KEYS', `${owner}=…`, 'key or owner=key, keys of at least 8 characters');
    }
    return { owner, key };
  });
}

function readRoots(text: string): string[] {
  const roots = text.split(':').filter((root) => root !== '');
  for (const root of roots) {
    if (!isAbsolute(root)) throw refuse('PTUNED_MODEL_ROOTS', root, 'absolute folders, separated by colons');
  }
  return roots;
}
