/** Hyperparameters of a method: schemas, and the form with every default resolved. */
import { type Static, Type } from 'typebox';

const auto = Type.Literal('auto');

/** How long a run is and when dev is scored: what every method has. */
const length = {
  n_epochs: Type.Optional(Type.Union([Type.Integer({ minimum: 1, maximum: 10_000 }), auto])),
  batch_size: Type.Optional(Type.Union([Type.Integer({ minimum: 1, maximum: 1024 }), auto])),
  max_steps: Type.Optional(
    Type.Union([Type.Integer({ minimum: 1, maximum: 1_000_000 }), Type.Null()], { description: 'null: no limit.' }),
  ),
  evaluate_every: Type.Optional(
    Type.Union([Type.Literal('epoch'), Type.Integer({ minimum: 1 })], {
      description: 'An epoch or a number of steps.',
    }),
  ),
  patience: Type.Optional(
    Type.Integer({ minimum: 1, maximum: 10_000, description: 'Evaluations without a gain before training stops.' }),
  ),
  drop_last: Type.Optional(Type.Boolean({ description: 'Drop the last partial batch of an epoch.' })),
  group_by_length: Type.Optional(
    Type.Boolean({ description: 'Rows of like length share batches: less padding, a less random order.' }),
  ),
};

export const Hyperparameters = Type.Object(
  {
    preset: Type.Optional(Type.Union([auto, Type.Literal('lama'), Type.Literal('few-shot')])),
    learning_rate: Type.Optional(Type.Union([Type.Number({ exclusiveMinimum: 0, maximum: 1e30 }), auto])),
    n_epochs: length.n_epochs,
    batch_size: length.batch_size,
    max_steps: length.max_steps,
    optimizer: Type.Optional(Type.Union([Type.Literal('adam'), Type.Literal('adamw')])),
    weight_decay: Type.Optional(Type.Number({ minimum: 0, maximum: 1 })),
    schedule: Type.Optional(
      Type.Union([Type.Literal('exponential'), Type.Literal('linear'), Type.Literal('constant')]),
    ),
    gamma: Type.Optional(Type.Number({ exclusiveMinimum: 0, maximum: 1, description: 'Exponential decay an epoch.' })),
    warmup_ratio: Type.Optional(Type.Number({ minimum: 0, maximum: 0.9 })),
    gradient_clip: Type.Optional(Type.Union([Type.Number({ exclusiveMinimum: 0 }), Type.Null()])),
    evaluate_every: length.evaluate_every,
    patience: length.patience,
    drop_last: length.drop_last,
    group_by_length: length.group_by_length,
  },
  { additionalProperties: false },
);

/** A search has no optimizer. */
export const SearchHyperparameters = Type.Object(
  { preset: Type.Optional(auto), ...length },
  { additionalProperties: false },
);

export type Hyperparameters = Static<typeof Hyperparameters>;
export type SearchHyperparameters = Static<typeof SearchHyperparameters>;

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
  group_by_length: boolean;
}

/** Those of a search: how long it is. */
export type ResolvedLength = Pick<
  ResolvedHyperparameters,
  'preset' | 'n_epochs' | 'batch_size' | 'max_steps' | 'evaluate_every' | 'patience' | 'drop_last' | 'group_by_length'
>;
