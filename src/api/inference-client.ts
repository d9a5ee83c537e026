/** Forwards validated queries to the inference process and hands its answer through, streamed or whole. */
import { Agent, request as httpRequest, type IncomingMessage } from 'node:http';
import { PtunedError } from '../errors.ts';

export interface InferenceClient {
  /**
   * POSTs a JSON body for an owner and resolves with the answer's head; its body is still to be read.
   * @param signal aborts the request: the client has gone
   * @throws PtunedError inference_unavailable when inference cannot be reached or does not answer in time
   */
  post(path: string, body: unknown, owner: string, signal: AbortSignal): Promise<IncomingMessage>;
  /** Resolves when inference answers its own health check. */
  ping(): Promise<void>;
  close(): void;
}

export interface InferenceClientOptions {
  /** Base URL of the inference process. */
  url: string;
  /** Milliseconds to get a connection. */
  connectTimeout?: number;
  /** Milliseconds without a byte before the answer, or between two parts of it. */
  idleTimeout?: number;
}

export function createInferenceClient(options: InferenceClientOptions): InferenceClient {
  const { url, connectTimeout = 2000, idleTimeout = 120_000 } = options;
  const agent = new Agent({ keepAlive: true, maxFreeSockets: 64 });

  const send = (
    method: string,
    path: string,
    headers: Record<string, string>,
    body: string,
    signal: AbortSignal,
    pooled: Agent | false,
  ) =>
    new Promise<IncomingMessage>((resolve, reject) => {
      const request = httpRequest(new URL(path, url), { method, agent: pooled, headers, signal });
      const connecting = setTimeout(() => request.destroy(new Error('no connection')), connectTimeout);
      request.on('socket', (socket) => {
        if (socket.connecting) socket.once('connect', () => clearTimeout(connecting));
        else clearTimeout(connecting);
      });
      request.setTimeout(idleTimeout, () => request.destroy(new Error('no answer')));
      request.on('response', resolve);
      request.on('error', (error: NodeJS.ErrnoException) => {
        clearTimeout(connecting);
        const stale = request.reusedSocket && (error.code === 'ECONNRESET' || error.code === 'EPIPE');
        reject(stale ? new StaleSocket() : error);
      });
      request.end(body);
    });

  return {
    post: async (path, body, owner, signal) => {
      const text = JSON.stringify(body);
      const headers = {
        'content-type': 'application/json',
        'content-length': String(Buffer.byteLength(text)),
        'x-ptuned-owner': owner,
      };
      // A kept-alive connection may close just as it is used again; a fresh one tells whether inference is there.
      const attempt = (pooled: Agent | false) => send('POST', path, headers, text, signal, pooled);
      try {
        return await attempt(agent).catch((error) => {
          if (error instanceof StaleSocket) return attempt(false);
          throw error;
        });
      } catch (cause) {
        signal.throwIfAborted();
        throw new PtunedError('inference_unavailable', 'the inference process cannot be reached.', { cause });
      }
    },
    ping: async () => {
      const response = await send('GET', '/healthz', {}, '', AbortSignal.timeout(connectTimeout), false);
      response.resume();
      if (response.statusCode !== 200) throw new Error(`healthz answered ${response.statusCode}`);
    },
    close: () => agent.destroy(),
  };
}

class StaleSocket extends Error {}
