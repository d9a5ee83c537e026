/** Schema of the prompt encoder (the paper's reparameterisation of the prompt table). */
import { type Static, Type } from 'typebox';

export const Encoder = Type.Object(
  {
    type: Type.Optional(
      Type.Union([Type.Literal('lstm'), Type.Literal('mlp'), Type.Literal('embedding')], {
        description: "lstm: the paper (default). mlp: PEFT's reparameterisation. embedding: the table itself.",
      }),
    ),
    layers: Type.Optional(Type.Integer({ minimum: 1, maximum: 4, description: 'LSTM layers. Default 2.' })),
    dropout: Type.Optional(Type.Literal(0, { description: 'Only 0: the prompt encoder trains without dropout.' })),
  },
  { additionalProperties: false },
);
export type Encoder = Static<typeof Encoder>;

/** What makes the keys and values of a prefix. */
export const PrefixEncoder = Type.Object(
  {
    type: Type.Optional(
      Type.Union([Type.Literal('embedding'), Type.Literal('projection')], {
        description:
          "embedding: the keys and values themselves (default). projection: PEFT's prefix_projection, an embedding through two linear layers with tanh between.",
      }),
    ),
    hidden_width: Type.Optional(
      Type.Integer({
        minimum: 1,
        maximum: 8192,
        description: "Width between a projection's two layers. Default: the width of its embedding.",
      }),
    ),
  },
  { additionalProperties: false },
);
export type PrefixEncoder = Static<typeof PrefixEncoder>;
export type EncoderType = NonNullable<Encoder['type']> | NonNullable<PrefixEncoder['type']>;
