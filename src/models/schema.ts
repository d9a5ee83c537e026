/** Kinds of LM. */
import { type Static, Type } from 'typebox';

/** A masked LM fills in what is masked, a causal LM goes on with a text, an encoder-decoder LM answers one text with another. */
export const LmKind = Type.Union([Type.Literal('masked'), Type.Literal('causal'), Type.Literal('seq2seq')]);
export type LmKind = Static<typeof LmKind>;
