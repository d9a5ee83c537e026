/** One generated continuation: chooses tokens, builds the text, and says when it ends. */
import { type Candidates, generatedFrom, type RenderedRow } from '../tasks/types.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';
import type { Prompt, Ticket } from './batch.ts';
import { candidateScores, highest, logSoftmax } from './probabilities.ts';
import { createSampler, type SamplingOptions } from './sampling.ts';
import type { Logprobs } from './schema.ts';
import { createTextBuilder } from './text.ts';

export interface CompletionOptions extends SamplingOptions {
  maxTokens: number;
  stops: readonly string[];
  /** Likeliest tokens to report at each position; null reports none. */
  logprobs: number | null;
}

/** What was generated since the last piece; the last one has a reason. */
export interface Piece {
  text: string;
  logprobs: Logprobs | null;
  finish: 'stop' | 'length' | null;
}

/** A piece of the answer to one of a request's prompts. */
export type IndexedPiece = Piece & { index: number };

export interface Completion {
  ticket: Ticket;
  /** Tokens generated so far, an end-of-text token not counted. */
  tokens(): number;
}

export interface CompletionInput {
  row: RenderedRow;
  prompt: Prompt | null;
  tokenizer: Tokenizer;
  /** Tokens that end a text. */
  ends: readonly number[];
  /** Tokens that are never chosen. */
  never: readonly number[];
  /** The first token is chosen among these; null leaves it free. */
  first: Candidates | null;
}

interface Choice {
  token: number;
  logprob: number;
  top: Record<string, number>;
}

/** `onPiece` is called whenever text is ready to be shown, and a last time with the reason of the end. */
export function createCompletion(
  { row, prompt, tokenizer, ends, never, first }: CompletionInput,
  options: CompletionOptions,
  onPiece: (piece: Piece) => void,
): Completion {
  const choose = createChooser(tokenizer, never, options);
  const text = createTextBuilder(tokenizer, generatedFrom(row), options.stops);
  const choices: Choice[] = [];
  let shown = 0;
  let reported = 0;

  /** `cut`: a stop string ended the text, and tokens may lie behind it. */
  function emit(finish: Piece['finish'], cut = false): void {
    const released = text.release(finish !== null);
    if (released === '' && finish === null) return;
    shown += released.length;
    const offsets = text.offsets();
    const from = reported;
    // Tokens without a text of their own, like half characters, are told with what follows them.
    const all = finish !== null && !cut;
    while (reported < choices.length && (all || offsets[reported]! < shown)) reported++;
    const logprobs = options.logprobs === null ? null : report(tokenizer, choices.slice(from, reported), offsets, from);
    onPiece({ text: released, logprobs, finish });
  }

  function take(logits: Float32Array): number | null {
    const choice = choose(logits, choices.length === 0 ? first : null);
    if (ends.includes(choice.token)) {
      emit('stop');
      return null;
    }
    choices.push(choice);
    const stopped = text.push(choice.token);
    const finish = stopped ? 'stop' : choices.length === options.maxTokens ? 'length' : null;
    emit(finish, stopped);
    return finish === null ? choice.token : null;
  }

  // The last token is never run, so the row grows by one token less than it generates.
  return { ticket: { row, prompt, grows: options.maxTokens - 1, take }, tokens: () => choices.length };
}

/** Chooses the next token and, where asked, its log-probability and those of the likeliest tokens. */
function createChooser(tokenizer: Tokenizer, never: readonly number[], options: CompletionOptions) {
  const sample = createSampler(options);
  return (logits: Float32Array, among: Candidates | null): Choice => {
    const scores = among === null ? without(logits, never) : candidateScores(logits, among);
    const idOf = (index: number) => (among === null ? index : among.ids[index * among.width]!);
    const index = sample(scores);
    const top: Record<string, number> = {};
    if (options.logprobs === null) return { token: idOf(index), logprob: 0, top };
    const logprobs = logSoftmax(scores);
    for (const likely of highest(logprobs, options.logprobs))
      if (logprobs[likely]! > Number.NEGATIVE_INFINITY) top[tokenizer.decode([idOf(likely)])] ??= logprobs[likely]!;
    return { token: idOf(index), logprob: logprobs[index]!, top };
  };
}

function without(logits: Float32Array, never: readonly number[]): Float32Array {
  if (never.length === 0) return logits;
  const left = logits.slice();
  for (const id of never) left[id] = Number.NEGATIVE_INFINITY;
  return left;
}

function report(tokenizer: Tokenizer, choices: Choice[], offsets: number[], from: number): Logprobs {
  return {
    tokens: choices.map(({ token }) => tokenizer.decode([token])),
    token_logprobs: choices.map(({ logprob }) => logprob),
    top_logprobs: choices.map(({ top }) => top),
    text_offset: choices.map((_, i) => offsets[from + i]!),
  };
}
