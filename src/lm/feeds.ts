/** Names and types of what the host feeds to every LM program. */

import type { GraphBuilder } from '../onnx/builder.ts';
import { symbol } from '../onnx/dim.ts';
import { typeOf } from '../onnx/types.ts';

export const batch = symbol('batch');
export const sequence = symbol('sequence');
/** Tokens that an encoder-decoder LM's decoder is given. */
export const decoderSequence = symbol('decoder_sequence');
/** Tokens of a batch that are computed: see pack.ts. */
export const packedCount = symbol('tokens');
/** Tokens of a batch that are computed apart from the others: see pack.ts. */
export const earlyCount = symbol('early_tokens');
/** Pseudo tokens of a batch. */
export const pseudoCount = symbol('pseudo_tokens');
/** Rows of the prompt table. */
export const tableRows = symbol('rows');

export const feeds = {
  /** [batch, sequence] int64 token ids. */
  ids: 'feed/ids',
  /** [batch, sequence] int64; 1 token, 0 padding. With a cache: [batch, past + sequence]. */
  mask: 'feed/mask',
  /** [batch, sequence] int64; with a cache only, otherwise computed from the mask. */
  positions: 'feed/positions',
  /** [batch, sequence] int64: row of the table that replaces the word embedding, -1 for none. */
  slots: 'feed/slots',
  /** [rows, width] float32 prompt table. */
  table: 'feed/table',
  /** [width] float32: what word embeddings are multiplied with. */
  vector: 'feed/vector',
  /** [batch, decoder sequence] int64 token ids that an encoder-decoder LM's decoder is given. */
  decoderIds: 'feed/decoder_ids',
  /** [batch, 1] int64: position whose logits are read, of the decoder where there is one. */
  targets: 'feed/targets',
  /** [batch, 1] int64: index of the right candidate. */
  labels: 'feed/labels',
  /** [batch, 1] float32: what a row's loss counts for in the gradient. */
  weights: 'feed/weights',
  /** [tokens] int64: place of each computed token in the batch, row · length + position. */
  packed: 'feed/packed',
  /** [batch, sequence] int64: the computed token that stands at each place; any at padding. */
  spread: 'feed/spread',
  /** [batch, sequence] int64: the same at the one place a token was taken from, elsewhere the number of tokens. */
  spreadGradient: 'feed/spread_gradient',
  /** [copies] int64: places where a token stands that was taken from another place, and [copies, 1] which token. */
  copies: 'feed/copies',
  copyRows: 'feed/copy_rows',
  /** [early tokens] int64: places of the tokens that are computed apart; [batch, sequence] which of them stands where, or -1. */
  early: 'feed/early',
  spreadEarly: 'feed/spread_early',
  /** [batch] int64: the computed token whose logits are read. */
  packedTargets: 'feed/packed_targets',
} as const;

/** The feed of the ids at whose positions logits are read: the decoder's where there is one. */
export function idsRead(builder: GraphBuilder): string {
  return builder.types.has(feeds.decoderIds) ? feeds.decoderIds : feeds.ids;
}

/** Declares an int64 [batch, sequence] input. */
export function idsInput(builder: GraphBuilder, name: string): string {
  return builder.input(name, typeOf('int64', [batch, sequence]));
}

/** Declares an int64 [batch, 1] input. */
export function targetInput(builder: GraphBuilder, name: string): string {
  return builder.input(name, typeOf('int64', [batch, 1]));
}
