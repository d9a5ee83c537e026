/** Models: frozen base LMs, visible to everyone, and tuned prompts, visible to their owner. */
import { type Static, Type } from 'typebox';
import { LmKind } from '../../models/schema.ts';
import { nameCharacters, Patterned, UnixSeconds } from './common.ts';

export const ModelParams = Type.Object({
  model: Type.String({ examples: ['demo-bert', 'ft:demo-bert:local:capitals:5b1c0a7e'] }),
});

export const ModelRegister = Type.Object(
  {
    path: Type.String({
      minLength: 1,
      maxLength: 4096,
      description: 'Folder in the layout of the Hugging Face Hub, inside one of the folders the service accepts.',
    }),
    id: Type.Optional(
      Patterned('^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$', `${nameCharacters}, the first a letter or a digit`, {
        description: `Default: the name of the folder. Accepted: ${nameCharacters}, the first a letter or a digit.`,
      }),
    ),
    embedding: Type.Optional(
      Type.String({
        minLength: 1,
        maxLength: 1000,
        description:
          'Node that looks up word embeddings. Default: the only one that does; a refusal lists those there are.',
      }),
    ),
    graph: Type.Optional(
      Type.String({
        pattern: '\\.onnx$',
        maxLength: 1000,
        description:
          'The graph, relative to the folder, where there are several: onnx/model_q4.onnx. Default: model.onnx or onnx/model.onnx, else the only one.',
      }),
    ),
  },
  {
    title: 'ModelRegister',
    additionalProperties: false,
    examples: [{ path: 'demo-bert' }],
  },
);

const common = {
  id: Type.String(),
  object: Type.Literal('model'),
  created: UnixSeconds,
  owned_by: Type.String({ description: 'ptuned for a base LM, else the owner.' }),
  kind: LmKind,
};

export const BaseModelObject = Type.Object(
  {
    ...common,
    architecture: Type.String(),
    parameters: Type.Integer(),
    vocabulary_size: Type.Integer(),
    embedding_width: Type.Integer(),
    max_length: Type.Integer({ description: 'Longest sequence in tokens, pseudo tokens included.' }),
    hash: Type.String({ description: 'sha256 a tuned prompt is bound to.' }),
  },
  { title: 'BaseModel', description: 'A frozen LM.' },
);

export const TunedModelObject = Type.Object(
  {
    ...common,
    base_model: Type.String(),
    fine_tuning_job_id: Type.String(),
    step: Type.Integer(),
    method: Type.String({ description: 'How it was tuned: p_tuning, prompt_tuning, prefix_tuning or autoprompt.' }),
    task: Type.String(),
    fields: Type.Array(Type.String(), { description: 'What a query must give: the fields of the template.' }),
    metrics: Type.Record(Type.String(), Type.Number()),
  },
  { title: 'TunedModel', description: 'A tuned prompt.' },
);

export const ModelObject = Type.Union([BaseModelObject, TunedModelObject], { title: 'Model' });

export type ModelRegister = Static<typeof ModelRegister>;
export type BaseModelObject = Static<typeof BaseModelObject>;
export type TunedModelObject = Static<typeof TunedModelObject>;
export type ModelObject = Static<typeof ModelObject>;
