/** A completion as server-sent events, or joined into whole choices. */
import type { FastifyReply } from 'fastify';
import type { IndexedPiece } from './completion.ts';
import { errorBody, toPtunedError } from './errors.ts';
import type { CompletionResponse, Logprobs } from './schema.ts';

type Choice = CompletionResponse['choices'][number];
type Head = Omit<CompletionResponse, 'choices' | 'usage'>;

/** The choice that the pieces of one prompt make. */
export function joinPieces(pieces: readonly IndexedPiece[], index: number): Choice {
  const own = pieces.filter((piece) => piece.index === index);
  const reported = own.flatMap(({ logprobs }) => (logprobs === null ? [] : [logprobs]));
  return {
    text: own.map(({ text }) => text).join(''),
    index,
    logprobs: own.some(({ logprobs }) => logprobs !== null) ? joinLogprobs(reported) : null,
    finish_reason: own.at(-1)?.finish ?? 'stop',
  };
}

function joinLogprobs(parts: readonly Logprobs[]): Logprobs {
  return {
    tokens: parts.flatMap(({ tokens }) => tokens),
    token_logprobs: parts.flatMap(({ token_logprobs }) => token_logprobs),
    top_logprobs: parts.flatMap(({ top_logprobs }) => top_logprobs),
    text_offset: parts.flatMap(({ text_offset }) => text_offset),
  };
}

/**
 * Sends pieces as they come and `[DONE]` after the last. A failure before the first piece is thrown and becomes an
 * ordinary error answer; a later one is sent as an event, which ends the stream.
 */
export async function streamPieces(
  reply: FastifyReply,
  head: Head,
  run: (onPiece: (piece: IndexedPiece) => void) => Promise<unknown>,
  signal: AbortSignal,
): Promise<void> {
  const channel = createChannel<IndexedPiece>();
  void run(channel.push).then(
    () => channel.end(),
    (error: unknown) => channel.end(error),
  );
  // A send waits for a slow client to read, and would wait for ever for one that has gone.
  const gone = new Promise<never>((_resolve, reject) => {
    signal.addEventListener('abort', () => reject(signal.reason), { once: true });
  });
  gone.catch(() => undefined);
  const send = (data: unknown) => Promise.race([reply.sse.send(typeof data === 'string' ? data : { data }), gone]);
  let begun = false;
  try {
    for await (const { index, text, logprobs, finish } of channel.items()) {
      begun = true;
      await send({ ...head, choices: [{ text, index, logprobs, finish_reason: finish }] });
    }
    await send('[DONE]');
  } catch (error) {
    if (signal.aborted) return;
    if (!begun) throw error;
    await send(errorBody(toPtunedError(error)));
  }
}

/** Pieces from where they arise to where they are awaited, in order; bounded by what a request may generate. */
function createChannel<T>() {
  const queued: T[] = [];
  let ended: { error: unknown } | null = null;
  let wake: () => void = () => undefined;
  return {
    push(item: T) {
      queued.push(item);
      wake();
    },
    end(error?: unknown) {
      ended = { error };
      wake();
    },
    async *items(): AsyncGenerator<T> {
      for (;;) {
        while (queued.length > 0) yield queued.shift()!;
        if (ended !== null) {
          if (ended.error !== undefined) throw ended.error;
          return;
        }
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
      }
    },
  };
}
