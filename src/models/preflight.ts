/** Imports an LM in a child process of limited memory and time: a model file may be hostile. */
import { type ChildProcess, fork } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { totalmem } from 'node:os';
import { extname } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type FailureRecord, fromFailureRecord, PtunedError } from '../errors.ts';
import type { Inspection, InspectionRequest } from './inspection.ts';
import type { ImportOptions, ModelManifest } from './manifest.ts';

/** What workers/preflight.ts is asked: to import, or only to look. */
export interface PreflightRequest {
  directory: string;
  options: ImportOptions;
  inspect?: InspectionRequest;
}

/** What it sends back. */
export type PreflightMessage = { manifest: ModelManifest } | { inspection: Inspection } | { failure: FailureRecord };

export interface PreflightLimits {
  /** Resident memory of the child. Default: three quarters of the machine's. */
  megabytes?: number;
  /** Default 300. */
  seconds?: number;
  /** The child's script, for tests. */
  script?: string;
}

export type PreflightOptions = PreflightLimits & ImportOptions;

const heapMegabytes = 2048;
const watchMilliseconds = 50;

/**
 * Resolves with the manifest of the LM in `directory`. Throws what the import refuses; import_refused when it needs
 * too much memory or time; damaged_model when its process dies.
 */
export async function preflightModel(directory: string, options: PreflightOptions = {}): Promise<ModelManifest> {
  const { id, embedding, graph, ...limits } = options;
  const message = await inChild({ directory, options: { id, embedding, graph } }, limits);
  if ('manifest' in message) return message.manifest;
  throw new Error('the import answered something else');
}

/** What is in `directory`, under the same limits and with the same failures. */
export async function preflightInspection(
  directory: string,
  request: InspectionRequest,
  options: PreflightOptions = {},
): Promise<Inspection> {
  const { id, embedding, graph, ...limits } = options;
  const message = await inChild({ directory, options: { id, embedding, graph }, inspect: request }, limits);
  if ('inspection' in message) return message.inspection;
  throw new Error('the inspection answered something else');
}

async function inChild(request: PreflightRequest, limits: PreflightLimits): Promise<PreflightMessage> {
  const { megabytes = Math.floor((0.75 * totalmem()) / 2 ** 20), seconds = 300, script = defaultScript() } = limits;
  const child = fork(script, [], {
    stdio: ['ignore', 2, 2, 'ipc'],
    execArgv: [...process.execArgv, `--max-old-space-size=${heapMegabytes}`],
  });
  let refusal: PtunedError | null = null;
  const refuse = (message: string) => {
    refusal ??= new PtunedError('import_refused', message, { param: 'path' });
    child.kill('SIGKILL');
  };
  const late = setTimeout(() => refuse(`The import took longer than ${seconds} s and was stopped.`), seconds * 1000);
  const watch = watchMemory(child, megabytes, () =>
    refuse(`The import needed more than ${megabytes} MB of memory and was stopped.`),
  );
  try {
    const message = await answer(child, request);
    if (refusal !== null) throw refusal;
    if (message === null) throw died(child);
    if ('failure' in message) throw fromFailureRecord(message.failure);
    return message;
  } finally {
    clearTimeout(late);
    clearInterval(watch);
    child.kill('SIGKILL');
  }
}

/** The child's one message, or null when it ended without. */
function answer(child: ChildProcess, request: PreflightRequest): Promise<PreflightMessage | null> {
  return new Promise((resolve) => {
    child.once('message', (message) => resolve(message as PreflightMessage));
    child.once('exit', () => resolve(null));
    child.once('error', () => resolve(null));
    child.send(request, () => {});
  });
}

function died({ exitCode, signalCode }: ChildProcess): PtunedError {
  const how = signalCode === null ? `exit code ${exitCode}` : signalCode;
  return new PtunedError(
    'damaged_model',
    `The import ended without an answer (${how}): the model is damaged, or needs more memory than there is.`,
    { param: 'path' },
  );
}

/** Looks at the child's resident memory, where the system tells; the limit of the JavaScript heap does not cover it. */
function watchMemory(child: ChildProcess, megabytes: number, exceeded: () => void): NodeJS.Timeout {
  return setInterval(async () => {
    const status = await readFile(`/proc/${child.pid}/status`, 'utf8').catch(() => '');
    const kilobytes = Number(/^VmRSS:\s+(\d+) kB/m.exec(status)?.[1] ?? 0);
    const mapped = Number(/^RssFile:\s+(\d+) kB/m.exec(status)?.[1] ?? 0);
    // Pages of mapped weight files can be dropped at any time.
    if (kilobytes - mapped > megabytes * 1024) exceeded();
  }, watchMilliseconds);
}

function defaultScript(): string {
  return fileURLToPath(new URL(`../../workers/preflight${extname(import.meta.url)}`, import.meta.url));
}
