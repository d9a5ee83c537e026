/** P-tuning: pseudo tokens made by a prompt encoder (arXiv 2103.10385). */
import { type Static, Type } from 'typebox';
import { PtunedError } from '../../errors.ts';
import { Encoder, type EncoderType } from '../../prompts/schema.ts';
import { Task, Template } from '../../tasks/schema.ts';
import { Hyperparameters } from '../hyperparameters.ts';
import type { MethodRecord, ResolvedCommon } from './record.ts';

export const PTuning = Type.Object(
  {
    template: Template,
    encoder: Type.Optional(Encoder),
    task: Type.Optional(Task),
    hyperparameters: Type.Optional(Hyperparameters),
  },
  { additionalProperties: false },
);
export type PTuning = Static<typeof PTuning>;

export interface ResolvedPTuning extends ResolvedCommon {
  type: 'p_tuning';
  /** `layers` is an lstm's. */
  encoder: { type: EncoderType; layers?: number };
}

export const pTuning: MethodRecord<PTuning, ResolvedPTuning> = {
  resolve: ({ encoder = {} }, { width }, path) => ({ type: 'p_tuning', encoder: resolveEncoder(encoder, width, path) }),
  plan: ({ encoder }) => ({
    place: 'embeddings',
    prefix: null,
    start: 'mean',
    encoder: { type: encoder.type, layers: encoder.layers ?? 1, hidden: null },
    search: null,
  }),
  rate: ({ encoder }) => (encoder.type === 'embedding' ? 'rows' : 'encoder'),
  refuse: () => null,
};

function resolveEncoder(encoder: Encoder, width: number, path: string): ResolvedPTuning['encoder'] {
  const type = encoder.type ?? 'lstm';
  if (type !== 'lstm' && encoder.layers !== undefined) {
    throw refused(`${path}.encoder.layers`, `layers is for encoder type lstm; the type here is ${type}.`);
  }
  if (type === 'lstm' && width % 2 !== 0) {
    throw refused(
      `${path}.encoder.type`,
      `An lstm encoder needs an even embedding width (half for each direction); this LM has ${width}. Accepted: mlp, embedding.`,
    );
  }
  return type === 'lstm' ? { type, layers: encoder.layers ?? 2 } : { type };
}

function refused(param: string, message: string): PtunedError {
  return new PtunedError('invalid_request', `${param}: ${message}`, { param });
}
