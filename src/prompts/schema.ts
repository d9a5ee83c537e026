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
export type EncoderType = NonNullable<Encoder['type']>;
