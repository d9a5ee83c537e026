/** Fine-tuning jobs in OpenAI's form; what P-tuning adds (test_file, progress, result) is an extension. */
import { type Static, Type } from 'typebox';
import type { JobStatus } from '../../jobs/contract.ts';
import { Method } from '../../jobs/method.ts';
import { accepts } from '../describe.ts';
import { After, Limit, nameCharacters, Patterned, UnixSeconds } from './common.ts';

const Nullable = <T extends Parameters<typeof Type.Union>[0][number]>(schema: T) => Type.Union([schema, Type.Null()]);

const FileId = (what: string) => Type.String({ minLength: 1, maxLength: 100, description: what });

const Metadata = Type.Unsafe<Record<string, string>>({
  type: 'object',
  maxProperties: 16,
  propertyNames: { maxLength: 64 },
  additionalProperties: { type: 'string', maxLength: 512 },
  description: 'At most 16 pairs; names of at most 64 characters, values of at most 512.',
});

export const JobCreate = Type.Object(
  {
    model: Type.String({ minLength: 1, maxLength: 300, description: 'Id of a registered base LM (GET /v1/models).' }),
    training_file: FileId('Id of an uploaded JSONL file.'),
    validation_file: Type.Optional(Nullable(FileId('Dev set. Without one, a part of training_file is split off.'))),
    test_file: Type.Optional(Nullable(FileId('Extension: scored once, at the end, with the best prompt.'))),
    suffix: Type.Optional(
      Nullable(
        Patterned('^[A-Za-z0-9._-]{1,64}$', nameCharacters, {
          description: `A name of yours inside the id of the tuned model: ${nameCharacters}.`,
        }),
      ),
    ),
    seed: Type.Optional(
      Nullable(Type.Integer({ minimum: 0, maximum: 2_147_483_647, description: 'Default 34, the paper’s.' })),
    ),
    metadata: Type.Optional(Nullable(Metadata)),
    method: Type.Optional(Method),
    integrations: Type.Optional(
      Nullable(Type.Array(Type.Unknown(), { maxItems: 0, description: 'None exist; null or an empty list.' })),
    ),
  },
  {
    title: 'JobCreate',
    additionalProperties: false,
    examples: [
      {
        model: 'demo-bert',
        training_file: 'file-0f3a9c5d7e1b2a4c6d8e0f12',
        suffix: 'capitals',
        method: {
          type: 'p_tuning',
          p_tuning: {
            template: [{ virtual: 3 }, { field: 'country' }, { virtual: 3 }, { target: 'capital' }, { text: '.' }],
            task: { type: 'cloze' },
            hyperparameters: { learning_rate: 'auto', n_epochs: 'auto' },
          },
        },
      },
    ],
  },
);

export const JobParams = Type.Object({ job_id: Type.String({ examples: ['ftjob-5b1c0a7e9d3f2468ace13579'] }) });

export const JobHeaders = Type.Object({
  'idempotency-key': Type.Optional(
    Type.String({
      minLength: 1,
      maxLength: 255,
      description: 'Requests of one owner with one key make one job for at least 24 hours; another body answers 409.',
    }),
  ),
});

/** `metadata[name]=value` arrives as one flat key a pair. */
export const ListJobsQuery = Type.Unsafe<{ after?: string; limit?: string } & Record<string, string>>({
  type: 'object',
  properties: { after: After('job'), limit: Limit },
  patternProperties: { '^metadata\\[[^\\]]{1,64}\\]$': { type: 'string', maxLength: 512 } },
  [accepts]: 'after, limit, metadata[name]',
  additionalProperties: false,
});

export const ListPartsQuery = Type.Object(
  { after: Type.Optional(After('item')), limit: Type.Optional(Limit) },
  { additionalProperties: false },
);

const Numbers = Type.Record(Type.String(), Type.Number());

const Scores = Type.Object({ dev: Numbers, test: Nullable(Numbers) });

const RowCounts = Type.Object(
  { used: Type.Integer(), shortened: Type.Integer(), dropped: Type.Integer() },
  { title: 'RowCounts' },
);

export const JobResultObject = Type.Object(
  {
    manual: Nullable(Scores),
    tuned: Scores,
    best_step: Type.Integer(),
    steps: Type.Integer(),
    seconds_per_step: Type.Number(),
    seconds: Type.Number(),
    rows: Type.Object({ train: RowCounts, dev: RowCounts, test: RowCounts }),
    prompt_sha256: Type.String(),
    words: Type.Optional(
      Type.Array(Type.String(), { description: 'The prompt word by word, where its method chooses words.' }),
    ),
  },
  {
    title: 'JobResult',
    description: 'Manual prompt beside the tuned one; test is scored once, with the best prompt of dev.',
  },
);

export const ProgressObject = Type.Object(
  {
    step: Type.Integer(),
    total_steps: Type.Integer(),
    epoch: Type.Number(),
    loss: Nullable(Type.Number()),
    learning_rate: Type.Number(),
    metric: Type.String({ description: 'Name of the dev metric.' }),
    dev_metric: Nullable(Type.Number()),
    best_dev_metric: Nullable(Type.Number()),
    seconds_per_step: Nullable(Type.Number()),
    seconds_left: Nullable(Type.Number({ description: 'Without early stopping; null unless the job runs.' })),
    trained_tokens: Type.Integer(),
    tokens_per_second: Nullable(Type.Number({ description: 'Of this job, evaluations aside.' })),
    packed_jobs: Type.Integer({ description: 'Jobs that shared the last step of the LM, this one included.' }),
  },
  { title: 'Progress' },
);

export const JobStatusName = Type.Unsafe<JobStatus>({
  type: 'string',
  enum: ['validating_files', 'queued', 'running', 'paused', 'succeeded', 'failed', 'cancelled'] satisfies JobStatus[],
});

export const JobObject = Type.Object(
  {
    id: Type.String(),
    object: Type.Literal('fine_tuning.job'),
    created_at: UnixSeconds,
    finished_at: Nullable(UnixSeconds),
    estimated_finish: Nullable(UnixSeconds),
    status: JobStatusName,
    model: Type.String(),
    fine_tuned_model: Nullable(Type.String({ description: 'Null until the job has succeeded.' })),
    organization_id: Type.String({ description: 'The owner of the key.' }),
    training_file: Type.String(),
    validation_file: Nullable(Type.String()),
    test_file: Nullable(Type.String()),
    result_files: Type.Array(Type.String()),
    trained_tokens: Nullable(Type.Integer()),
    hyperparameters: Type.Unsafe<Record<string, unknown>>({ type: 'object', description: 'All of them, resolved.' }),
    method: Type.Unsafe<Record<string, unknown>>({ type: 'object', description: 'The method with every default.' }),
    seed: Type.Integer(),
    metadata: Metadata,
    integrations: Type.Array(Type.Unknown()),
    error: Nullable(
      Type.Object({
        code: Type.String(),
        message: Type.String(),
        param: Nullable(Type.String()),
        details: Type.Optional(Type.Unsafe<Record<string, unknown>>({ type: 'object' })),
      }),
    ),
    progress: Nullable(ProgressObject),
    result: Nullable(JobResultObject),
  },
  { title: 'Job', description: 'A P-tuning job.' },
);

export const EventObject = Type.Object(
  {
    id: Type.String(),
    object: Type.Literal('fine_tuning.job.event'),
    created_at: UnixSeconds,
    level: Type.Union([Type.Literal('info'), Type.Literal('warn'), Type.Literal('error')]),
    type: Type.Union([Type.Literal('message'), Type.Literal('metrics')]),
    message: Type.String(),
    data: Type.Unsafe<Record<string, unknown>>({ type: 'object' }),
  },
  { title: 'Event' },
);

export const CheckpointObject = Type.Object(
  {
    id: Type.String(),
    object: Type.Literal('fine_tuning.job.checkpoint'),
    created_at: UnixSeconds,
    fine_tuning_job_id: Type.String(),
    fine_tuned_model_checkpoint: Type.String({ description: 'Usable as a model.' }),
    step_number: Type.Integer(),
    metrics: Numbers,
  },
  { title: 'Checkpoint', description: 'A prompt kept at an evaluation.' },
);

export type JobCreate = Static<typeof JobCreate>;
export type JobObject = Static<typeof JobObject>;
export type EventObject = Static<typeof EventObject>;
export type CheckpointObject = Static<typeof CheckpointObject>;
