/** Generated tokens as text: decoded piece by piece, never half a character, cut at stop strings. */
import type { Tokenizer } from '../tokenizer/tokenizer.ts';

export interface TextBuilder {
  /** Appends a token; true when a stop string ended the text. */
  push(token: number): boolean;
  /** The whole text, without the stop string and what follows it. */
  text(): string;
  /** Where the text of each token begins [tokens]. */
  offsets(): number[];
  /** Text not handed out yet that can no longer change; `last` hands out the rest. */
  release(last: boolean): string;
}

/**
 * @param before the tokens in front, so that the first word gets the space that its tokenizer gives it inside a text
 */
export function createTextBuilder(
  tokenizer: Pick<Tokenizer, 'decode'>,
  before: readonly number[],
  stops: readonly string[],
): TextBuilder {
  const longestStop = Math.max(0, ...stops.map((stop) => stop.length));
  // Decoding is not a sum over tokens (spaces, characters of several tokens), so a window is decoded again: `known` are
  // the tokens whose text is settled, `fresh` those that may still change it.
  let known = before.slice(-4);
  let fresh: number[] = [];
  let settled = '';
  let pending = '';
  let released = 0;
  let stopped = false;
  const starts: number[] = [];

  function decodeFresh(): string {
    const prefix = tokenizer.decode(known);
    const whole = tokenizer.decode([...known, ...fresh]);
    return whole.startsWith(prefix) ? whole.slice(prefix.length) : tokenizer.decode(fresh);
  }

  function findStop(text: string, from: number): number {
    const found = stops.map((stop) => text.indexOf(stop, from)).filter((at) => at >= 0);
    return found.length === 0 ? -1 : Math.min(...found);
  }

  return {
    push(token) {
      starts.push(settled.length + pending.length);
      fresh.push(token);
      pending = decodeFresh();
      const from = Math.max(0, settled.length - longestStop + 1);
      const text = settled + pending;
      const stop = findStop(text, from);
      if (stop >= 0) {
        settled = text.slice(0, stop);
        pending = '';
        stopped = true;
        return true;
      }
      // The replacement character stands for a character that further tokens may complete; no more than a few can.
      if (!pending.endsWith('\uFFFD') || fresh.length > 8) {
        settled = text;
        pending = '';
        known = [...known, ...fresh].slice(-8);
        fresh = [];
      }
      return false;
    },
    text: () => settled + pending,
    offsets: () => starts,
    release(last) {
      const end = last ? settled.length + pending.length : settled.length - (stopped ? 0 : heldBack(settled, stops));
      const text = (settled + pending).slice(released, Math.max(end, released));
      released += text.length;
      return text;
    },
  };
}

/** Length of the longest end of `text` that begins a stop string. */
function heldBack(text: string, stops: readonly string[]): number {
  let most = 0;
  for (const stop of stops) {
    for (let length = Math.min(stop.length - 1, text.length); length > most; length--) {
      if (text.endsWith(stop.slice(0, length))) {
        most = length;
        break;
      }
    }
  }
  return most;
}
