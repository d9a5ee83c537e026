/** What is reported of each generated token. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createCompletion, type Piece } from '../../src/inference/completion.ts';
import type { Tokenizer } from '../../src/tokenizer/tokenizer.ts';

/** Token 0 has no text, as special tokens have none. */
const words = ['', 'one', 'two', 'three'];
const tokenizer = { decode: (ids: readonly number[]) => ids.map((id) => words[id]).join('') } as Tokenizer;
const row = { ids: [1], slots: [-1], target: 0, label: -1, cut: 0 };

/** Pieces of a completion whose likeliest tokens are these. */
function piecesOf(tokens: readonly number[], stops: readonly string[], never: readonly number[] = []): Piece[] {
  const pieces: Piece[] = [];
  const input = { row, prompt: null, tokenizer, ends: [], never, first: null };
  const options = { maxTokens: tokens.length, temperature: 0, topP: 1, seed: 0, stops, logprobs: 4 };
  const { ticket } = createCompletion(input, options, (piece) => pieces.push(piece));
  for (const token of tokens) ticket.take(Float32Array.from(words, (_, id) => (id === token ? 1 : 0)));
  return pieces;
}

const told = (pieces: readonly Piece[]) => pieces.flatMap(({ logprobs }) => logprobs!.tokens);

test('tokens without text are told like others, also where the text ends with them', () => {
  assert.deepEqual(told(piecesOf([1, 0, 2, 0, 0], [])), ['one', '', 'two', '', '']);
  assert.deepEqual(told(piecesOf([0, 0], [])), ['', '']);
});

test('tokens behind a stop string are not told', () => {
  assert.deepEqual(told(piecesOf([1, 2, 3], ['three'])), ['one', 'two']);
});

test('a token that is never said is not chosen, and not told among the likeliest', () => {
  const [piece] = piecesOf([3], [], [3, 1]);
  assert.equal(piece!.text, '');
  assert.deepEqual(Object.keys(piece!.logprobs!.top_logprobs[0]!), ['', 'two']);
});
