/** The one place that turns a failure into an HTTP response: {"error": {message, type, param, code}}. */
import type { Socket } from 'node:net';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { failures, PtunedError } from '../errors.ts';

declare module 'fastify' {
  interface FastifyContextConfig {
    /** The route takes multipart/form-data rather than JSON. */
    multipart?: boolean;
  }
}

export interface ErrorBody {
  error: { message: string; type: string; param: string | null; code: string };
}

/** Seconds after which a client should try again, unless the failure says otherwise (`details.retryAfter`). */
const defaultRetryAfter = 2;

export function errorBody(error: PtunedError): ErrorBody {
  const { message, param, code } = error;
  return { error: { message, type: failures[code].type, param, code } };
}

/** Status, headers and body of a failure; state conflicts tell the SDK not to retry, 429 and 503 when to. */
export function sendError(reply: FastifyReply, error: PtunedError): FastifyReply {
  const { status } = failures[error.code];
  if (status === 409) reply.header('x-should-retry', 'false');
  if (status === 401) reply.header('www-authenticate', 'Bearer');
  if (status === 429 || status === 503) {
    reply.header('retry-after', String(error.details.retryAfter ?? defaultRetryAfter));
  }
  return reply.code(status).type('application/json; charset=utf-8').send(errorBody(error));
}

/** Says what is wrong with a body that the JSON parser refused. */
export function explainJson(body: string): PtunedError {
  try {
    JSON.parse(body);
  } catch (error) {
    return new PtunedError('invalid_json', `the body is not valid JSON: ${(error as Error).message}.`, {
      cause: error,
    });
  }
  const message = 'the body has a field "__proto__", or "constructor" with "prototype" in it, which are not accepted.';
  return new PtunedError('invalid_json', message);
}

/** Errors of the file system that mean "not now" rather than "never": the disk is full, read-only, failing. */
const storageErrors = new Set(['ENOSPC', 'EDQUOT', 'EROFS', 'EIO', 'EACCES', 'EPERM', 'EMFILE', 'ENFILE', 'ESTALE']);

/** Any thrown value as a failure of the table; what is unknown becomes `internal` and tells nothing of the inside. */
export function toPtunedError(error: unknown, request?: FastifyRequest): PtunedError {
  if (error instanceof PtunedError) return error;
  const { code, message } = (error ?? {}) as { code?: unknown; message?: string };
  switch (code) {
    case 'FST_ERR_CTP_BODY_TOO_LARGE': {
      const limit = request?.routeOptions.bodyLimit;
      const most = limit === undefined ? 'than this route accepts' : `than ${limit} bytes, the most this route accepts`;
      return new PtunedError('payload_too_large', `the body is larger ${most}.`);
    }
    case 'FST_REQ_FILE_TOO_LARGE':
      return new PtunedError('payload_too_large', 'the file is larger than accepted.', { param: 'file' });
    case 'FST_ERR_CTP_INVALID_MEDIA_TYPE':
    case 'FST_INVALID_MULTIPART_CONTENT_TYPE': {
      const found = request?.headers['content-type'] ?? 'missing';
      return new PtunedError('unsupported_media_type', `content-type is ${found}; accepted: ${mediaTypes(request)}.`);
    }
    default:
  }
  if (typeof code === 'string' && storageErrors.has(code)) {
    return new PtunedError('storage_unavailable', `the data directory cannot be used now (${code}).`, { cause: error });
  }
  if (isClientError(error)) return new PtunedError('invalid_request', `the request is not valid: ${message}.`);
  return new PtunedError('internal', 'the service failed to answer; its log names this request by x-request-id.', {
    cause: error,
  });
}

/** Fastify and its plugins mark what the client got wrong with a 4xx status and an FST_ code. */
function isClientError(error: unknown): boolean {
  const { statusCode, code } = (error ?? {}) as { statusCode?: unknown; code?: unknown };
  const fromFastify = typeof code === 'string' && code.startsWith('FST_');
  const fromParser = error instanceof SyntaxError;
  return (fromFastify || fromParser) && typeof statusCode === 'number' && statusCode >= 400 && statusCode < 500;
}

function mediaTypes(request: FastifyRequest | undefined): string {
  return request?.routeOptions.config.multipart === true ? 'multipart/form-data' : 'application/json';
}

/** Installs the error handler, and the same form for unknown routes. */
export function registerErrorHandling(app: FastifyInstance): void {
  app.setErrorHandler((thrown, request, reply) => {
    // The client has gone: there is nobody to answer.
    if (reply.raw.destroyed) return reply.hijack();
    const error = toPtunedError(thrown, request);
    if (error.code === 'internal') request.log.error({ err: error.cause ?? error, requestId: request.id }, 'failed');
    return sendError(reply, error);
  });
  app.setNotFoundHandler((request, reply) => {
    const path = request.url.split('?', 1)[0];
    return sendError(
      reply,
      new PtunedError(
        'not_found',
        `${request.method} ${path} is not a route of this service; /docs shows those there are.`,
      ),
    );
  });
}

/** Answers what is not even HTTP, or does not arrive in time, in the same form. */
export function answerBrokenRequest(error: Error & { code?: string }, socket: Socket): void {
  if (error.code === 'ECONNRESET' || !socket.writable) {
    socket.destroy();
    return;
  }
  const late = error.code === 'ERR_HTTP_REQUEST_TIMEOUT' || error.code === 'ERR_HTTP_HEADERS_TIMEOUT';
  const message = late ? 'the request did not arrive in time.' : 'the request is not valid HTTP.';
  const body = JSON.stringify(errorBody(new PtunedError('invalid_request', message)));
  const status = late ? '408 Request Timeout' : '400 Bad Request';
  const head = `content-type: application/json; charset=utf-8\r\ncontent-length: ${Buffer.byteLength(body)}`;
  socket.end(`HTTP/1.1 ${status}\r\n${head}\r\nconnection: close\r\n\r\n${body}`);
}
