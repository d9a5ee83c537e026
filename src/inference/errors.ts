/** Failures of the internal server in the API's form, which hands them through: {"error": {message, type, param, code}}. */
import type { FastifyInstance, FastifyReply } from 'fastify';
import { failures, PtunedError } from '../errors.ts';

/** Body of an error answer; also the event that ends a stream which failed after it began. */
export function errorBody({ message, param, code }: PtunedError) {
  return { error: { message, type: failures[code].type, param, code } };
}

/** Any thrown value as a failure of the table. What is unknown tells nothing of the inside. */
export function toPtunedError(error: unknown): PtunedError {
  if (error instanceof PtunedError) return error;
  const { statusCode, message, validation } = (error ?? {}) as {
    statusCode?: number;
    message?: string;
    validation?: { instancePath: string }[];
  };
  if (statusCode === 413) return new PtunedError('payload_too_large', 'The body is larger than this route accepts.');
  if (statusCode !== undefined && statusCode >= 400 && statusCode < 500) {
    const param = validation?.[0]?.instancePath.slice(1).replaceAll('/', '.');
    return new PtunedError('invalid_request', `${message}.`, param ? { param } : {});
  }
  return new PtunedError('internal', 'Inference failed; its log tells more.', { cause: error });
}

export function registerErrorHandling(app: FastifyInstance): void {
  app.setErrorHandler((thrown, request, reply) => {
    // The client has gone: there is nobody to answer.
    if (reply.raw.destroyed) return reply.hijack();
    const error = toPtunedError(thrown);
    if (failures[error.code].status >= 500 && !failures[error.code].retryable) {
      request.log.error({ err: error.cause ?? error, route: request.routeOptions.url }, 'query failed');
    }
    return sendError(reply, error);
  });
  app.setNotFoundHandler((request, reply) =>
    sendError(reply, new PtunedError('not_found', `${request.method} ${request.url} is not a route of inference.`)),
  );
}

export function sendError(reply: FastifyReply, error: PtunedError): FastifyReply {
  const { status } = failures[error.code];
  if (status === 409) reply.header('x-should-retry', 'false');
  if (status === 429 || status === 503) reply.header('retry-after', String(error.details.retryAfter ?? 1));
  return reply.code(status).send(errorBody(error));
}
