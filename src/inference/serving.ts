/** What the query routes share: who asks, what they ask, and running the rows of one request. */

import type { IncomingMessage, ServerResponse } from 'node:http';
import { performance } from 'node:perf_hooks';
import { setImmediate as afterEvents } from 'node:timers/promises';
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox';
import type { FastifyBaseLogger, FastifyInstance, FastifyReply, FastifyRequest, RawServerDefault } from 'fastify';
import type { RenderedRow } from '../tasks/types.ts';
import type { Ticket } from './batch.ts';
import type { Catalog, Known, Served } from './catalog.ts';
import type { Work } from './lane.ts';
import { renderInput } from './render.ts';
import type { Residents } from './residents.ts';
import type { Fields, Usage } from './schema.ts';

export type App = FastifyInstance<
  RawServerDefault,
  IncomingMessage,
  ServerResponse,
  FastifyBaseLogger,
  TypeBoxTypeProvider
>;

export interface Serving {
  catalog: Catalog;
  residents: Residents;
}

/** The owner the API authenticated; without the header, the owner of a service without keys. */
export function ownerOf(request: FastifyRequest): string {
  const owner = request.headers['x-ptuned-owner'];
  return typeof owner === 'string' && owner !== '' ? owner : 'local';
}

/** Aborts when the client goes away before its answer is complete. */
export function clientSignal(reply: FastifyReply): AbortSignal {
  const gone = new AbortController();
  if (reply.raw.destroyed) gone.abort();
  reply.raw.once('close', () => {
    if (!reply.raw.writableFinished) gone.abort();
  });
  return gone.signal;
}

/**
 * What serves `id` for its owner, as {@link Catalog.resolve} tells. A queue without room for `rows` more refuses before
 * the store is asked: on a busy machine its answer takes longer than all the rest of a refusal.
 */
export async function resolveWithRoom(
  { catalog, residents }: Serving,
  { id, owner, rows, work }: { id: string; owner: string; rows: number; work: (task: Known['task']) => Work },
): Promise<Served> {
  const known = catalog.recall(id, owner);
  if (known !== null) residents.peek(known.base)?.checkRoom(work(known.task), rows);
  return catalog.resolve(id, owner);
}

/** Milliseconds of tokenizing after which others get their turn. */
const longestRendering = 8;

/**
 * Renders each input. A queue without room refuses before any work is done, and other requests get their turn between
 * inputs.
 */
export async function renderAll<T>(
  { residents }: Serving,
  served: Served,
  work: Work,
  inputs: readonly T[],
  render: (input: T, index: number) => RenderedRow,
): Promise<RenderedRow[]> {
  residents.peek(served.base)?.checkRoom(work, inputs.length);
  const rows: RenderedRow[] = [];
  let since = performance.now();
  for (const [index, input] of inputs.entries()) {
    if (performance.now() - since > longestRendering) {
      await afterEvents();
      since = performance.now();
    }
    rows.push(render(input, index));
  }
  return rows;
}

interface Query {
  model: string;
  /** One, or several that are answered in their order. */
  inputs: Fields | Fields[];
}

/**
 * Scores each of the inputs. `readerOf` says what is made of the logits of one; it is asked before anything is rendered, and
 * refuses models that the route does not serve.
 */
export async function scoreInputs<T>(
  serving: Serving,
  { request, reply }: { request: FastifyRequest; reply: FastifyReply },
  { model, inputs }: Query,
  readerOf: (served: Served) => (logits: Float32Array) => T,
): Promise<{ results: T[]; usage: Usage }> {
  const list = asList(inputs);
  const asked = { id: model, owner: ownerOf(request), rows: list.length, work: () => 'score' as const };
  const served = await resolveWithRoom(serving, asked);
  const signal = clientSignal(reply);
  const read = readerOf(served);
  const place = (index: number) => (Array.isArray(inputs) ? `inputs[${index}]` : 'inputs');
  const render = (input: Fields, index: number) => renderInput(served, input, place(index));
  const rows = await renderAll(serving, served, 'score', list, render);
  return { results: await scoreAll(serving, served, rows, signal, read), usage: usageOf(rows) };
}

/** Reads the logits at each row's target [vocabulary] and resolves with what `read` makes of them, in order. */
export async function scoreAll<T>(
  { residents }: Serving,
  served: Served,
  rows: readonly RenderedRow[],
  signal: AbortSignal,
  read: (logits: Float32Array) => T,
): Promise<T[]> {
  const results: T[] = [];
  const tickets = rows.map((row, index): Ticket => {
    const take = (logits: Float32Array) => {
      results[index] = read(logits);
      return null;
    };
    return { row, prompt: served.tuned?.prompt ?? null, grows: 0, take };
  });
  await residents.lane(served.base).submit('score', tickets, signal);
  return results;
}

export function usageOf(rows: readonly RenderedRow[], completionTokens = 0): Usage {
  const promptTokens = rows.reduce((sum, row) => sum + row.ids.length, 0);
  return {
    prompt_tokens: promptTokens,
    completion_tokens: completionTokens,
    total_tokens: promptTokens + completionTokens,
  };
}

/** A list of one or of several. */
export function asList<T>(value: T | T[]): T[] {
  return Array.isArray(value) ? value : [value];
}
