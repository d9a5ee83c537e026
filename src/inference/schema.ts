/** Bodies and answers of the three query routes, in the form in which the API forwards them and inference reads them. */
import { type Static, Type } from 'typebox';

const model = Type.String({ minLength: 1, maxLength: 300, description: 'Id of a base LM or of a tuned prompt.' });

/** As in the rows of a data file: numbers and booleans are written as text. */
const FieldValue = Type.Union([Type.String({ maxLength: 65_536 }), Type.Number(), Type.Boolean()]);

/** Values of the template's fields; for a base LM the one field `text`. */
export const Fields = Type.Record(Type.String(), FieldValue, {
  additionalProperties: false,
  description: 'One value for each field of the template; for a base LM one field: text.',
});

const inputs = Type.Union([Fields, Type.Array(Fields, { minItems: 1, maxItems: 256 })], {
  description: 'One input, or a list of at most 256.',
});

export const FillMaskRequest = Type.Object(
  {
    model,
    inputs,
    top_k: Type.Optional(Type.Integer({ minimum: 1, maximum: 100, description: 'Words an input. Default 5.' })),
  },
  {
    additionalProperties: false,
    examples: [{ model: 'ft:demo-bert:local:capitals:5b1c0a7e', inputs: { country: 'Norway' }, top_k: 3 }],
  },
);

export const ClassificationRequest = Type.Object(
  { model, inputs },
  {
    additionalProperties: false,
    examples: [{ model: 'ft:demo-bert:local:sentiment:0c2d4e6f', inputs: [{ text: 'A fine film.' }] }],
  },
);

const Nullable = <T extends Parameters<typeof Type.Union>[0][number]>(schema: T) => Type.Union([schema, Type.Null()]);

export const CompletionRequest = Type.Object(
  {
    model,
    prompt: Type.Union(
      [
        Type.String({ maxLength: 65_536 }),
        Type.Array(Type.String({ maxLength: 65_536 }), { minItems: 1, maxItems: 64 }),
        Fields,
        Type.Array(Fields, { minItems: 1, maxItems: 64 }),
      ],
      { description: 'Text or one value for each field of the template, or a list of at most 64 of either.' },
    ),
    max_tokens: Type.Optional(
      Nullable(
        Type.Integer({
          minimum: 1,
          maximum: 4096,
          description: 'Default 16, and 1 for a tuned prompt of a cloze task.',
        }),
      ),
    ),
    temperature: Type.Optional(
      Nullable(
        Type.Number({ minimum: 0, maximum: 2, description: '0 is greedy. Default 1, and 0 for a tuned prompt.' }),
      ),
    ),
    top_p: Type.Optional(Nullable(Type.Number({ exclusiveMinimum: 0, maximum: 1, description: 'Default 1.' }))),
    n: Type.Optional(Nullable(Type.Literal(1))),
    stop: Type.Optional(
      Type.Union([
        Type.String({ minLength: 1, maxLength: 200 }),
        Type.Array(Type.String({ minLength: 1, maxLength: 200 }), { minItems: 1, maxItems: 4 }),
        Type.Null(),
      ]),
    ),
    seed: Type.Optional(Nullable(Type.Integer({ minimum: 0, maximum: 2_147_483_647 }))),
    logprobs: Type.Optional(Nullable(Type.Integer({ minimum: 0, maximum: 20 }))),
    stream: Type.Optional(Nullable(Type.Boolean({ description: 'Answer with server-sent events. Default false.' }))),
    echo: Type.Optional(Nullable(Type.Literal(false))),
    user: Type.Optional(Type.String({ maxLength: 256, description: 'Accepted for the SDK; not used.' })),
  },
  {
    additionalProperties: false,
    examples: [
      { model: 'demo-gpt2', prompt: 'The capital of Norway is', max_tokens: 4, temperature: 0 },
      { model: 'ft:demo-gpt2:local:capitals:5b1c0a7e', prompt: { country: 'Norway' }, max_tokens: 1 },
    ],
  },
);

const Usage = Type.Object({
  prompt_tokens: Type.Integer({ description: 'Pseudo tokens included.' }),
  completion_tokens: Type.Integer(),
  total_tokens: Type.Integer(),
});

export const FillMaskResponse = Type.Object({
  object: Type.Literal('list'),
  model: Type.String(),
  data: Type.Array(
    Type.Object({
      index: Type.Integer({ description: 'Which input.' }),
      predictions: Type.Array(
        Type.Object({
          token_str: Type.String({ description: 'The word.' }),
          token: Type.Integer({ description: 'Its id.' }),
          score: Type.Number({ description: "Probability among the task's words, likeliest first." }),
        }),
      ),
    }),
  ),
  usage: Usage,
});

export const ClassificationResponse = Type.Object({
  object: Type.Literal('list'),
  model: Type.String(),
  data: Type.Array(
    Type.Object({
      index: Type.Integer({ description: 'Which input.' }),
      label: Type.String(),
      scores: Type.Record(Type.String(), Type.Number(), { description: 'Probability of each label; they sum to 1.' }),
    }),
  ),
  usage: Usage,
});

const Logprobs = Type.Object({
  tokens: Type.Array(Type.String()),
  token_logprobs: Type.Array(Type.Number()),
  top_logprobs: Type.Array(Type.Record(Type.String(), Type.Number()), {
    description: 'The likeliest tokens of each position; for a classification prompt the labels with their scores.',
  }),
  text_offset: Type.Array(Type.Integer()),
});

export const CompletionResponse = Type.Object({
  id: Type.String(),
  object: Type.Literal('text_completion'),
  created: Type.Integer(),
  model: Type.String(),
  choices: Type.Array(
    Type.Object({
      text: Type.String(),
      index: Type.Integer({ description: 'Which prompt.' }),
      logprobs: Nullable(Logprobs),
      finish_reason: Type.Union([Type.Literal('stop'), Type.Literal('length')]),
    }),
  ),
  usage: Usage,
});

export type Usage = Static<typeof Usage>;
export type FillMaskResponse = Static<typeof FillMaskResponse>;
export type ClassificationResponse = Static<typeof ClassificationResponse>;
export type Logprobs = Static<typeof Logprobs>;
export type CompletionResponse = Static<typeof CompletionResponse>;
export type Fields = Static<typeof Fields>;
export type FillMaskRequest = Static<typeof FillMaskRequest>;
export type ClassificationRequest = Static<typeof ClassificationRequest>;
export type CompletionRequest = Static<typeof CompletionRequest>;
