/**
 * Prefix tuning (arXiv 2101.00190), P-tuning v2 (arXiv 2110.07602): trained keys and values before the first token in
 * every layer, fed through the past_key_values inputs of the LM's export.
 */
import { type Static, Type } from 'typebox';
import { PtunedError } from '../../errors.ts';
import { refusePrefix } from '../../models/past.ts';
import { PrefixEncoder } from '../../prompts/schema.ts';
import { initWords, Task, Template, tokenCount } from '../../tasks/schema.ts';
import { Hyperparameters } from '../hyperparameters.ts';
import { Initialization } from './prompt-tuning.ts';
import type { EncoderChoice, MethodRecord, ResolvedCommon } from './record.ts';

export const PrefixTuning = Type.Object(
  {
    template: Template,
    virtual_tokens: Type.Optional(
      tokenCount('Length of the prefix, which no segment of the template names. Default 10.'),
    ),
    init: Type.Optional(
      initWords(
        'Words whose keys and values the prefix starts from, the last word on the last of it; also the manual prompt before the template.',
      ),
    ),
    initialization: Type.Optional(Initialization),
    encoder: Type.Optional(PrefixEncoder),
    task: Type.Optional(Task),
    hyperparameters: Type.Optional(Hyperparameters),
  },
  { additionalProperties: false },
);
export type PrefixTuning = Static<typeof PrefixTuning>;

export interface ResolvedPrefixTuning extends ResolvedCommon {
  type: 'prefix_tuning';
  virtual_tokens: number;
  init?: string;
  initialization: Initialization;
  encoder: { type: NonNullable<PrefixEncoder['type']>; hidden_width?: number };
}

export const prefixTuning: MethodRecord<PrefixTuning, ResolvedPrefixTuning> = {
  resolve: ({ virtual_tokens = 10, init, initialization = 'vocabulary', encoder = {} }, _context, path) => ({
    type: 'prefix_tuning',
    virtual_tokens,
    ...(init === undefined ? {} : { init }),
    initialization,
    encoder: resolveEncoder(encoder, `${path}.encoder.hidden_width`),
  }),
  plan: ({ virtual_tokens, init, initialization, encoder }) => ({
    place: 'past',
    prefix: { virtual: virtual_tokens, ...(init === undefined ? {} : { init }) },
    start: initialization,
    encoder: encoderOf(encoder),
    search: null,
  }),
  rate: ({ encoder }) => (encoder.type === 'embedding' ? 'keys_and_values' : 'encoder'),
  refuse: refusePrefix,
};

function resolveEncoder({ type = 'embedding', ...widths }: PrefixEncoder, param: string) {
  if (type === 'projection' || widths.hidden_width === undefined) return { type, ...widths };
  throw new PtunedError(
    'invalid_request',
    `${param}: hidden_width is for encoder type projection; the type here is ${type}.`,
    { param },
  );
}

function encoderOf({ type, hidden_width }: ResolvedPrefixTuning['encoder']): EncoderChoice {
  return { type, layers: 1, hidden: hidden_width ?? null };
}
