/** The `method` of a fine-tuning job: schema, and the form with every default resolved. */
import { type Static, Type } from 'typebox';
import { Encoder, type EncoderType } from '../prompts/schema.ts';
import { type MetricName, Task, Template } from '../tasks/schema.ts';

const auto = Type.Literal('auto');

export const Hyperparameters = Type.Object(
  {
    preset: Type.Optional(Type.Union([auto, Type.Literal('lama'), Type.Literal('few-shot')])),
    learning_rate: Type.Optional(Type.Union([Type.Number({ exclusiveMinimum: 0, maximum: 1e30 }), auto])),
    n_epochs: Type.Optional(Type.Union([Type.Integer({ minimum: 1, maximum: 10_000 }), auto])),
    batch_size: Type.Optional(Type.Union([Type.Integer({ minimum: 1, maximum: 1024 }), auto])),
    max_steps: Type.Optional(Type.Integer({ minimum: 1, maximum: 1_000_000 })),
    optimizer: Type.Optional(Type.Union([Type.Literal('adam'), Type.Literal('adamw')])),
    weight_decay: Type.Optional(Type.Number({ minimum: 0, maximum: 1 })),
    schedule: Type.Optional(
      Type.Union([Type.Literal('exponential'), Type.Literal('linear'), Type.Literal('constant')]),
    ),
    gamma: Type.Optional(Type.Number({ exclusiveMinimum: 0, maximum: 1, description: 'Exponential decay an epoch.' })),
    warmup_ratio: Type.Optional(Type.Number({ minimum: 0, maximum: 0.9 })),
    gradient_clip: Type.Optional(Type.Union([Type.Number({ exclusiveMinimum: 0 }), Type.Null()])),
    evaluate_every: Type.Optional(
      Type.Union([Type.Literal('epoch'), Type.Integer({ minimum: 1 })], {
        description: 'An epoch or a number of steps.',
      }),
    ),
    patience: Type.Optional(
      Type.Integer({ minimum: 1, maximum: 10_000, description: 'Evaluations without a gain before training stops.' }),
    ),
    drop_last: Type.Optional(Type.Boolean({ description: 'Drop the last partial batch of an epoch.' })),
  },
  { additionalProperties: false },
);

export const PTuning = Type.Object(
  {
    template: Template,
    encoder: Type.Optional(Encoder),
    task: Type.Optional(Task),
    hyperparameters: Type.Optional(Hyperparameters),
  },
  { additionalProperties: false },
);

/** `supervised` is what the OpenAI SDK's types know; it means p_tuning with defaults. */
export const Method = Type.Union([
  Type.Object({ type: Type.Literal('p_tuning'), p_tuning: PTuning }, { additionalProperties: false }),
  Type.Object(
    {
      type: Type.Literal('supervised'),
      supervised: Type.Optional(
        Type.Object({ hyperparameters: Type.Optional(Hyperparameters) }, { additionalProperties: false }),
      ),
    },
    { additionalProperties: false },
  ),
]);

export type Hyperparameters = Static<typeof Hyperparameters>;
export type PTuning = Static<typeof PTuning>;
export type Method = Static<typeof Method>;

/** Hyperparameters with nothing left open; what `auto` chose is reported with the job. */
export interface ResolvedHyperparameters {
  preset: 'auto' | 'lama' | 'few-shot';
  learning_rate: number;
  n_epochs: number;
  batch_size: number;
  max_steps: number | null;
  optimizer: 'adam' | 'adamw';
  weight_decay: number;
  schedule: 'exponential' | 'linear' | 'constant';
  gamma: number;
  warmup_ratio: number;
  gradient_clip: number | null;
  evaluate_every: 'epoch' | number;
  patience: number;
  drop_last: boolean;
}

export interface ResolvedMethod {
  type: 'p_tuning';
  template: Template;
  encoder: { type: EncoderType; layers: number };
  task: Task & { metric: MetricName };
  hyperparameters: ResolvedHyperparameters;
}
