/** POST /fill_mask, /classifications, /completions: checked here, answered by the inference process. */
import type { FastifyReply, FastifyRequest, FastifySchema } from 'fastify';
import {
  ClassificationRequest,
  ClassificationResponse,
  CompletionRequest,
  CompletionResponse,
  FillMaskRequest,
  FillMaskResponse,
} from '../../inference/schema.ts';
import type { App } from '../app.ts';
import { bearer } from '../openapi.ts';
import { errors } from '../schemas/common.ts';
import type { ApiServices } from '../services.ts';

/** 256 inputs of 16 KiB each; longer ones are past every LM's length. */
const bodyLimit = 4 << 20;

const routes = [
  {
    path: '/fill_mask',
    operationId: 'fillMask',
    summary: 'The likeliest words at the target (extension)',
    body: FillMaskRequest,
    answer: FillMaskResponse,
  },
  {
    path: '/classifications',
    operationId: 'classify',
    summary: 'Labels with their scores (extension)',
    body: ClassificationRequest,
    answer: ClassificationResponse,
  },
  {
    path: '/completions',
    operationId: 'createCompletion',
    summary: 'Text that goes on after the prompt; with stream: true as server-sent events',
    body: CompletionRequest,
    answer: CompletionResponse,
  },
];

export function queryRoutes(v1: App, { inference }: ApiServices): void {
  for (const { path, operationId, summary, body, answer } of routes) {
    const schema: FastifySchema = {
      operationId,
      summary,
      tags: ['Queries'],
      security: bearer,
      body,
      response: { 200: answer, ...errors },
    };
    v1.post(path, { bodyLimit, schema }, (request, reply) => forward(request, reply));
  }

  /** Hands the answer through as it comes; a client that goes away ends the work at the inference process too. */
  async function forward(request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> {
    const gone = new AbortController();
    reply.raw.once('close', () => {
      if (!reply.raw.writableFinished) gone.abort();
    });
    const answer = await inference.post(request.routeOptions.url!, request.body, request.owner, gone.signal);
    for (const name of ['content-type', 'content-length', 'retry-after', 'x-should-retry']) {
      const value = answer.headers[name];
      if (value !== undefined) reply.header(name, value);
    }
    return reply.code(answer.statusCode ?? 502).send(answer);
  }
}
