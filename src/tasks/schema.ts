/** Schemas of templates and tasks; types are derived from them. */
import { type Static, Type } from 'typebox';

const join = Type.Optional(
  Type.Union([Type.Literal('space'), Type.Literal('none')], {
    description:
      'How this segment joins what stands before it. Default: a space, except before closing punctuation and at a line break.',
  }),
);

export const tokenCount = (description: string) => Type.Integer({ minimum: 1, maximum: 512, description });
export const initWords = (description: string) => Type.String({ minLength: 1, maxLength: 1000, description });

export const VirtualSegment = Type.Object(
  {
    virtual: tokenCount('Number of pseudo tokens.'),
    init: Type.Optional(
      initWords(
        'Words from whose embeddings these pseudo tokens start, the last word on the last of them; also the manual prompt at this place.',
      ),
    ),
  },
  { additionalProperties: false },
);
export const FieldSegment = Type.Object(
  {
    field: Type.String({ minLength: 1, maxLength: 200 }),
    shortenable: Type.Optional(Type.Boolean({ description: 'May be cut when the row is too long. Default false.' })),
    join,
  },
  { additionalProperties: false },
);
export const TextSegment = Type.Object(
  { text: Type.String({ minLength: 1, maxLength: 4000 }), join },
  { additionalProperties: false },
);
export const TargetSegment = Type.Object(
  { target: Type.String({ minLength: 1, maxLength: 200, description: 'The field that holds the target.' }), join },
  { additionalProperties: false },
);
export const Segment = Type.Union([VirtualSegment, FieldSegment, TextSegment, TargetSegment]);
export const Template = Type.Array(Segment, { minItems: 1, maxItems: 100 });

export const ClozeTask = Type.Object(
  {
    type: Type.Literal('cloze'),
    metric: Type.Optional(Type.Union([Type.Literal('p_at_1'), Type.Literal('p_at_10'), Type.Literal('mrr')])),
    allowed_words: Type.Optional(
      Type.Array(Type.String({ minLength: 1, maxLength: 200 }), {
        minItems: 2,
        maxItems: 200_000,
        description: 'The target is chosen among these words; those that are not one token are left out and counted.',
      }),
    ),
    allowed_words_file: Type.Optional(
      Type.String({ description: 'Id of an uploaded file with one allowed word a line, instead of allowed_words.' }),
    ),
    drop_multi_token: Type.Optional(
      Type.Boolean({
        description:
          'Drop and count rows whose target is not one token, or not an allowed word, instead of refusing the file. Default false.',
      }),
    ),
  },
  { additionalProperties: false },
);
export const ClassificationTask = Type.Object(
  {
    type: Type.Literal('classification'),
    metric: Type.Optional(Type.Union([Type.Literal('accuracy'), Type.Literal('macro_f1')])),
    labels: Type.Record(
      Type.String({ minLength: 1, maxLength: 200 }),
      Type.Union([
        Type.String({ minLength: 1, maxLength: 200 }),
        Type.Array(Type.String({ minLength: 1, maxLength: 200 }), { minItems: 1, maxItems: 50 }),
      ]),
      { description: 'Each label with its verbalizer: one word or several; a label scores the mean of its logits.' },
    ),
  },
  { additionalProperties: false },
);
export const Task = Type.Union([ClozeTask, ClassificationTask]);

export type VirtualSegment = Static<typeof VirtualSegment>;
export type Segment = Static<typeof Segment>;
export type Template = Static<typeof Template>;
export type ClozeTask = Static<typeof ClozeTask>;
export type ClassificationTask = Static<typeof ClassificationTask>;
export type Task = Static<typeof Task>;
export type MetricName = 'p_at_1' | 'p_at_10' | 'mrr' | 'accuracy' | 'macro_f1';
